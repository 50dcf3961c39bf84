"""The main job, end to end, small, on the real language model."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import jax
import pytest

from dictlearn import cli
from tests.conftest import give_back_memory
from tests.lm.toy import toy, write_gguf

ROOT = Path(__file__).parents[1]
CONFIG = f"--config={ROOT / 'experiments' / 'quickstart.py'}:smoke"
STORE = Path("runs/quickstart-smoke/activations")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which the whole quickstart has run, on one device, as `make demo` runs it."""
    home = tmp_path_factory.mktemp("home")
    jax.clear_caches()  # The run needs as much memory as this process has kept.
    give_back_memory()
    for verb in ("harvest", "train"):
        command = [sys.executable, "-m", "dictlearn.cli", verb, CONFIG, "--workdir=run"]
        subprocess.run(command, cwd=home, env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=True)
    with contextlib.chdir(home):
        assert [cli.main([verb, CONFIG, "--workdir=run"]) for verb in ("fit", "report")] == [0, 0]
    return home


@pytest.fixture
def inside(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


def test_every_dictionary_is_measured_with_the_reconstruction_in_the_running_model(inside):
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert len(metrics) == 9
    for name, record in metrics.items():
        assert 0 < record["explained_variance"] < 1, name
        assert record["l0"] <= record["hparams"]["dictionary"]["k"]
        assert record["ce_score"] < 1
        assert record["ce_original"] < record["ce_spliced"] < record["ce_ablated"]
        assert record["kl"] > 0
        assert 0 <= record["dead_fraction"] < 1
    by_k = [metrics[f"topk_n384_{i}"]["explained_variance"] for i in range(3)]
    assert by_k == sorted(by_k)


def test_the_law_is_fitted_and_drawn(inside):
    scaling = json.loads(Path("run/scaling.json").read_text())
    assert {"parameters", "held_out", "identified"} <= scaling.keys()
    assert scaling["n_runs"] == 9
    assert ElementTree.parse("run/scaling.svg").getroot().tag.endswith("svg")


def test_the_page_names_every_dictionary(inside):
    page = Path("run/report.html").read_text()
    for name in json.loads(Path("run/metrics.json").read_text()):
        assert name in page


def test_a_second_harvest_changes_nothing_and_another_recipe_is_refused(inside, capsys):
    before = {p: p.read_bytes() for p in STORE.iterdir()}
    assert cli.main(["harvest", CONFIG]) == 0
    assert cli.main(["harvest", CONFIG, "--config.harvest.n_tokens=3000"]) == 1
    assert "n_tokens" in capsys.readouterr().err
    assert cli.main(["harvest", CONFIG, "--config.harvest.taps=('resid.99',)"]) == 1
    assert "resid.0" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in STORE.iterdir()} == before


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_damaged_shard_is_named_and_nothing_is_written(inside, capsys, damage):
    shard = min(STORE.glob("shard*"))
    intact = shard.read_bytes()
    try:
        if damage == "missing":
            shard.unlink()
        else:
            half = bytearray(intact)
            half[len(half) // 2] ^= 1
            shard.write_bytes(half if damage == "altered" else intact[:-100])
        assert cli.main(["train", CONFIG, "--workdir=other"]) == 1
        err = capsys.readouterr().err.strip()
        assert shard.name in err
        assert "\n" not in err
        assert not Path("other/config.json").exists()
    finally:
        shard.write_bytes(intact)


def test_a_store_that_is_not_there_says_which_command_makes_it(inside, capsys):
    assert cli.main(["train", CONFIG, "--workdir=other", "--config.stream.path=nowhere"]) == 1
    assert "dictlearn harvest" in capsys.readouterr().err


def test_evaluating_with_another_model_than_the_harvests_is_refused(inside, tmp_path, capsys):
    before = Path("run/metrics.json").read_bytes()
    spec, params = toy()
    write_gguf(tmp_path / "toy.gguf", spec, params)
    other = [f"--config.model.path={tmp_path / 'toy.gguf'}", "--config.model.name=toy"]
    assert cli.main(["eval", CONFIG, "--workdir=run", *other]) == 1
    told = capsys.readouterr().err
    assert "smollm2 (SmolLM2-135M-Instruct.Q4_1.gguf)" in told
    assert "toy (toy.gguf)" in told
    assert Path("run/metrics.json").read_bytes() == before
