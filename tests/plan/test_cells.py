"""The price of each cell adds up to the run's, and a run over its budget does not start."""

import json

import pytest

from dictlearn import cli
from dictlearn.plan import plan, topology
from dictlearn.plan.topology import Chip
from tests.helpers import planted_config

SWEEP = {"n_latents": (64, 128), "k": (2, 3), "steps": (5, 10)}
SLOW = Chip(flops=1e9, hbm=2**34, hbm_rate=1e9, ici_rate=1e9)


@pytest.fixture(scope="module")
def found():
    return plan(planted_config(sweep=SWEEP), chip=SLOW)


def test_every_cell_has_a_price_and_they_add_up(found):
    cells = found["cells"]
    told = {(c["settings"]["n_latents"], c["settings"]["k"], c["steps"]) for c in cells}
    assert told == {(n, k, steps) for n in (64, 128) for k in (2, 3) for steps in (5, 10)}
    assert all(cell["tokens"] == 128 * cell["steps"] for cell in cells)
    steps = {cell["name"]: cell["steps"] for cell in cells}
    rows = found["programs"]
    assert len(rows) == 4
    for mine, share in (("flops", "flops"), ("bytes_accessed", "bytes_accessed")):
        whole = sum(row[share] * found["devices"] * steps[row["name"]] for row in rows)
        assert sum(cell[mine] for cell in cells) == pytest.approx(whole)
    assert sum(cell["state"] for cell in cells) == pytest.approx(sum(r["state"] for r in rows))
    assert sum(cell["seconds"] for cell in cells) == pytest.approx(found["time"]["hours"] * 3600)
    price = {
        (c["settings"]["n_latents"], c["settings"]["k"], c["steps"]): c["flops"] for c in cells
    }
    assert price[64, 2, 10] == pytest.approx(2 * price[64, 2, 5])
    assert price[128, 2, 10] == pytest.approx(2 * price[64, 2, 10], rel=0.01)
    assert json.loads(json.dumps(found)) == found


def test_a_plan_says_what_is_over_the_budget_and_training_is_refused(tmp_path, capsys):
    file, run = tmp_path / "c.py", tmp_path / "run"
    config = planted_config(sweep={"n_latents": (64, 512)}, budget={"flops": 1e6, "bytes": 1e12})
    file.write_text(
        f"from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({config!r})\n"
    )
    words = [f"--config={file}", f"--workdir={run}"]
    assert cli.main(["plan", *words]) == 0
    shown = capsys.readouterr().out
    assert "Of each cell" in shown
    assert "Over budget" in shown
    assert cli.main(["train", *words]) == 1
    error = capsys.readouterr().err
    assert "flops, and budget.flops is 1e+06. The dearest cell is topk_n512_0" in error
    assert "bytes" not in error
    assert not run.exists()
    assert cli.main(["train", *words, "--config.budget.flops=1e12"]) == 0
    assert cli.main(["train", *words, "--config.budget.flops=-1"]) == 1
    assert "budget.flops=-1" in capsys.readouterr().err


def test_the_rates_of_this_machine_are_measured():
    chip = topology.measured()
    assert 1e8 < chip.flops < 1e16
    assert 1e7 < chip.hbm_rate < 1e14
    assert chip.hbm > 2**28
