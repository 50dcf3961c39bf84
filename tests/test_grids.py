"""A grid that grows: its cells are trained together, each once, and those there are stay as they are."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import dictlearn.train
from dictlearn import cli, restore
from tests.helpers import planted_config

FILE = """
from ml_collections import ConfigDict

def get_config(arg=""):
    return ConfigDict({config!r})
"""
SHARED = {"steps": 12, "log_every": 5, "checkpoint_every": 6, "evaluate": {"n_tokens": 256}}


@pytest.fixture
def train(tmp_path):
    """Trains a config with this sweep in `tmp_path/grid`, and fits a law to what is there."""

    def go(sweep, *words, **changes) -> int:
        # A file of its own for each config: Python takes a file of the same size and second for the same one.
        file = tmp_path / f"config{len([*tmp_path.glob('*.py')])}.py"
        config = planted_config(**{**SHARED, "sweep": sweep, **changes})
        file.write_text(FILE.format(config=config))
        where = f"--workdir={tmp_path / 'grid'}"
        status = cli.main(["train", f"--config={file}", where, *words])
        fit = ["fit", "--law=sparsity", "--at=n=32", "--at=tokens=1536", where]
        return status or cli.main(fit)

    return go


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a run, without the law and its figure."""
    files = [path for path in folder.rglob("*") if path.is_file() and "scaling" not in path.name]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def fitted(folder: Path) -> list[tuple]:
    found = json.loads((folder / "scaling_sparsity.json").read_text())
    return [(row["workdir"], row["n_latents"], row["k"]) for row in found["runs"]]


def test_two_cells_are_added_to_a_finished_grid_and_no_other_file_changes_by_a_byte(
    train, tmp_path, monkeypatch
):
    grid, trained = tmp_path / "grid", []
    ours = dictlearn.train.experiment.update
    monkeypatch.setattr(
        dictlearn.train.experiment,
        "update",
        lambda program, *more: (
            trained.extend(m.name for m in program.members) or ours(program, *more)
        ),
    )
    assert train({"n_latents": (32,), "k": (1, 2, 3, 4)}) == 0
    assert trained == [f"topk_n32_{i}" for i in range(4)]
    before, first = contents(grid), {one.name: one for one in restore(grid)}
    assert len(fitted(grid)) == 4
    trained.clear()
    wider = {"n_latents": (32,), "k": (1, 2, 3, 4, 6, 8)}
    assert train(wider) == 0
    assert trained == ["topk_n32_4", "topk_n32_5"]
    after = contents(grid)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("added/1/") for name in after.keys() - before.keys())
    assert fitted(grid) == [
        *((str(grid), 32, k) for k in (1, 2, 3, 4)),
        *((str(grid / "added" / "1"), 32, k) for k in (6, 8)),
    ]
    every = {one.name: one for one in restore(grid)}
    assert [one.hparams["dictionary"]["k"] for one in every.values()] == [1, 2, 3, 4, 6, 8]
    assert all(one.metrics["fvu"] > 0 for one in every.values())
    for name, one in first.items():
        a, b = (each.variables["params"]["W_dec_FD"] for each in (one, every[name]))
        np.testing.assert_array_equal(a, b)
    assert cli.main(["report", f"--workdir={grid}"]) == 0
    page = (grid / "report.html").read_text()
    assert all(name in page for name in every)


def test_longer_trainings_are_added_and_each_batch_is_read_once_for_all_cells(
    train, tmp_path, monkeypatch
):
    grid, reads = tmp_path / "grid", []
    ours = dictlearn.train.streams.read

    def counted(stream, start=0):
        for t, batch in enumerate(ours(stream, start), start):
            reads.append(t)
            yield batch

    monkeypatch.setattr(dictlearn.train.streams, "read", counted)
    assert train({"n_latents": (32, 64), "k": (1, 2, 3, 4), "steps": (7, 12)}) == 0
    assert reads == [*range(12)]
    lines = [json.loads(line) for line in (grid / "metrics.jsonl").read_text().splitlines()]
    steps = lambda name: [line["step"] for line in lines if name in line]
    assert (steps("topk_n32_0"), steps("topk_n32_1")) == ([5, 7], [5, 7, 10, 12])
    before = contents(grid)
    reads.clear()
    longer = {"n_latents": (32, 64), "k": (1, 2, 3, 4), "steps": (7, 12, 20)}
    assert train(longer, steps=20) == 0
    assert reads == [*range(20)]
    after = contents(grid)
    assert {name: after[name] for name in before} == before
    assert {one.hparams["steps"] for one in restore(grid)} == {7, 12, 20}


def test_a_grid_that_is_killed_while_it_grows_trains_only_what_is_left(train, tmp_path, capsys):
    small, large = ({"n_latents": (32,), "k": (1, 2, 3, 4, *more)} for more in ((), (6,)))
    grid = tmp_path / "grid"
    assert train(small) == 0
    before = contents(grid)
    assert train(large, "--config.meters.none.x=1") == 1
    assert "none" in capsys.readouterr().err
    assert contents(grid) == before
    assert train(large) == 0
    (grid / "added" / "1" / "metrics.json").unlink()
    assert len(restore(grid)) == 4
    assert train(large) == 0
    assert len(restore(grid)) == 5
    assert not (grid / "added" / "2").exists()


def test_other_data_and_other_settings_are_refused(train, tmp_path, capsys):
    grid = {"n_latents": (32,), "k": (1, 2, 3, 4)}
    assert train(grid) == 0
    before = contents(tmp_path / "grid")
    more = {"n_latents": (32,), "k": (1, 2, 3, 4, 6)}
    assert train(more, rule={"lr": 2e-3}) == 1
    assert "rule.lr=0.001, not 0.002" in capsys.readouterr().err
    assert train(more, seed=1) == 1
    assert "seed=0, not 1" in capsys.readouterr().err
    assert train({"n_latents": (32,), "k": (1, 2)}) == 1
    assert "sweep.k=(1, 2, 3, 4), not (1, 2)" in capsys.readouterr().err
    assert contents(tmp_path / "grid") == before
