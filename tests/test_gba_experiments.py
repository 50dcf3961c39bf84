"""The experiments on bias adaptation run, small, and their readings are those of the run."""

import json
from pathlib import Path

import pytest

from dictlearn import cli, experiment
from experiments import gba_recovery, gba_smollm2

FILE = Path(gba_recovery.__file__)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("gba") / "run"
    assert cli.main(["train", f"--config={FILE}:smoke", f"--workdir={path}"]) == 0
    return path


def test_recovery_is_read_for_every_setting_as_the_mean_of_its_seeds(workdir):
    ((title, rows),) = gba_recovery.table(workdir).items()
    assert title == "one target (density_high)"
    assert [row[0] for row in rows] == [0.01, 0.09, 0.3]
    metrics = json.loads((workdir / "metrics.json").read_text())
    seeds = [
        each for each in metrics.values() if each["hparams"]["dictionary"]["density_high"] == 0.09
    ]
    assert len(seeds) == 2
    for key, value in zip(("recovery_0.8", "recovery_0.9", "l0"), rows[1][1:], strict=True):
        assert value == pytest.approx(sum(record[key] for record in seeds) / 2)
    assert (workdir / "recovery.png").read_bytes()[:4] == b"\x89PNG"


def test_agreement_is_read_for_every_setting_over_its_seeds(workdir):
    found = gba_smollm2.agreement(workdir)
    points = found["one target"]
    assert [point["setting"] for point in points] == [[0.01], [0.09], [0.3]]
    for point in points:
        assert 0 <= point["top_1.0"] <= 1
        assert point["l0"] > 0
    assert json.loads((workdir / "consistency.json").read_text()) == found
    assert (workdir / "consistency.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("arg", ["", "smoke"])
def test_every_sweep_on_the_language_model_is_one_program(arg):
    config = gba_smollm2.get_config(arg).to_dict()
    programs = experiment.programs(config, 576, None)
    assert [p.key for p in programs] == [
        f"{name}_n{96 if arg else 768}_0" for name in ("gba", "jumprelu_held", "relu", "topk")
    ]
    assert {len(p.members) for p in programs} == ({2} if arg else {9})
