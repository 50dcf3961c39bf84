"""`dictlearn fit` reads the runs of any number of workdirs, and refuses what it cannot fit in one line."""

import json
import math
import re

import pytest

from dictlearn import cli
from dictlearn.scaling import laws
from dictlearn.scaling.inputs import rows
from tests.scaling.workdirs import D_IN, TOKENS, workdir


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two workdirs, a and b, of a planted power of k at one width."""
    monkeypatch.chdir(tmp_path)
    for name, ks in {"a": (2, 4, 8), "b": (16, 32, 64)}.items():
        workdir(tmp_path / name, [(64, k, 0.1 + 0.7 * k**-0.4) for k in ks])
    return tmp_path


def error(capsys, *words) -> str:
    """The line of a fit that fails."""
    assert cli.main(["fit", *words]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_a_law_of_several_workdirs_is_written_with_its_figure(two, capsys):
    assert cli.main(["fit", "--law=sparsity", "--runs=a", "--runs=b"]) == 0
    found = json.loads((two / "runs" / "a-b" / "scaling_sparsity.json").read_text())
    assert [row["workdir"] for row in found["runs"]] == ["a", "a", "a", "b", "b", "b"]
    assert found["law"] in (printed := capsys.readouterr().out)
    assert found["name"] == "sparsity"
    assert "exponent   0.4000" in printed
    assert found["identified"] == dict.fromkeys(found["identified"], True)
    assert "<svg" in (two / "runs" / "a-b" / "scaling_sparsity.svg").read_text()


def test_the_law_goes_into_the_workdir_that_is_given(two):
    words = ["--law=sparsity", "--runs=a", "--runs=b", "--at=n=64", "--workdir=law"]
    assert cli.main(["fit", *words]) == 0
    assert json.loads((two / "law" / "scaling_sparsity.json").read_text())["at"] == {"n": 64}


def test_another_metric_is_fitted_if_every_dictionary_has_it(two, capsys):
    words = ["--law=sparsity", "--runs=a", "--runs=b", "--loss=mse"]
    assert re.search(r"d0 of a has no mse, .*dictlearn eval --workdir=a", error(capsys, *words))
    for name in ("a", "b"):
        path = two / name / "metrics.json"
        records = json.loads(path.read_text())
        doubled = {d: {**record, "mse": 2 * record["fvu"]} for d, record in records.items()}
        path.write_text(json.dumps(doubled))
    assert cli.main(["fit", *words, "--workdir=law"]) == 0
    found = json.loads((two / "law" / "scaling_sparsity.json").read_text())
    assert found["parameters"]["log_floor"]["value"] == pytest.approx(math.log(0.2), abs=1e-3)
    assert found["loss"] == "mse"


def test_what_cannot_be_fitted_is_told_in_one_line(two, capsys):
    assert "joint, latents, sparsity" in error(capsys, "--law=cubic", "--runs=a")
    assert "3 cells of (k) are too few" in error(capsys, "--law=sparsity", "--runs=a")
    assert "more than once" in error(capsys, "--law=sparsity", "--runs=a", "--runs=b", "--runs=b")
    assert "--at=k" in error(capsys, "--law=latents", "--runs=a", "--at=k")
    assert "dictlearn eval --workdir=none" in error(capsys, "--runs=none")
    assert not (two / "runs").exists()
    with pytest.raises(SystemExit, match="2"):
        cli.main(["fit", "--runs=a", "--config=c.py"])


def test_compute_is_counted_and_a_run_that_a_cheaper_one_beats_is_left_out(tmp_path):
    path = workdir(tmp_path / "a", [(32, 4, 0.5), (64, 4, 0.6), (128, 4, 0.4)])
    found = rows(laws.make("compute"), [path])
    assert [row["dictionary"] for row in found] == ["d0", "d2"]
    assert [row["compute"] for row in found] == [12 * D_IN * n * TOKENS for n in (32, 128)]


def test_a_value_that_no_run_has_is_answered_with_those_there_are(tmp_path):
    path = workdir(tmp_path / "a", [(32, 4, 0.5), (64, 8, 0.6)])
    with pytest.raises(ValueError, match=r"k=5; there are 4, 8"):
        rows(laws.make("joint"), [path], {"k": 5})
    with pytest.raises(ValueError, match=r"no input 'q'.*tokens"):
        rows(laws.make("joint"), [path], {"q": 5})
