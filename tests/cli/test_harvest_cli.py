"""Harvest, and training with and without its store, through the command line on a tiny model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from dictlearn import cli, restore
from dictlearn.runs.trained import restore_run
from dictlearn.streams import store
from dictlearn.streams._source import Forward
from tests.lm.toy import SPEC, toy, write_gguf

CONFIG = f"--config={Path(__file__).parents[2] / 'experiments' / 'harvest.py'}:smoke"
SMALL = (
    *("--config.harvest.sequence_length=16", "--config.harvest.n_tokens=3000"),
    *("--config.harvest.shard_rows=512", "--config.sweep.n_latents=(32,)", "--config.sweep.k=(4,)"),
    *(
        "--config.dictionary.aux_k=8",
        "--config.stream.tap=resid.1",
        "--config.evaluate.n_tokens=512",
    ),
)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The words that say which model, taps and text."""
    home = tmp_path_factory.mktemp("given")
    model = write_gguf(home / "tiny.gguf", *toy(0, replace(SPEC, vocab=260)))
    random = np.random.default_rng(0)
    lines = [" ".join(map(str, random.integers(0, 1000, 30))) for _ in range(60)]
    (home / "text.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines))
    taps = "--config.taps=resid.{0,1}"
    return f"--config.model={model}", taps, f"--config.text={home / 'text.jsonl'}", *SMALL


@pytest.fixture(scope="module")
def workdir(given, tmp_path_factory):
    """A folder with a finished harvest."""
    workdir = tmp_path_factory.mktemp("run")
    assert cli.main(["harvest", CONFIG, *given, f"--workdir={workdir}"]) == 0
    return workdir


@pytest.fixture(scope="module")
def live(given, tmp_path_factory):
    """A folder with a run from the language model, and the words that made it."""
    words = [*given, "--config.stream.name=from_lm", "--config.stream.path=nowhere"]
    words += [f"--workdir={tmp_path_factory.mktemp('live')}"]
    assert cli.main(["train", CONFIG, *words]) == 0
    return Path(words[-1].partition("=")[2]), words


def test_harvest_takes_a_model_taps_and_a_text_by_short_words(workdir):
    recipe = store.open_manifest(workdir / "activations")["recipe"]
    assert list(recipe["taps"]) == ["resid.0", "resid.1"]
    assert recipe["model"]["name"] == "tiny"
    assert recipe["text"]["source"] == "text.jsonl"
    assert store.tokens(workdir / "activations", "held_out")[0].shape[1] == 16


def test_a_model_split_over_devices_harvests_the_same_rows(given, workdir, tmp_path):
    split = ["--config.mesh.model=2", f"--workdir={tmp_path}"]
    assert cli.main(["harvest", CONFIG, *given, *split]) == 0
    for name, entry in store.open_manifest(workdir / "activations")["shards"].items():
        one, other = (store.map_tensors(path / "activations", name) for path in (workdir, tmp_path))
        np.testing.assert_array_equal(one["sequence_R"], other["sequence_R"])
        np.testing.assert_allclose(
            one["resid.1"][:].astype("f"), other["resid.1"].astype("f"), rtol=0.02, atol=0.02
        )
        assert len(one["resid.0"]) == entry["rows"]


def test_each_sequence_passes_the_model_once_for_all_cells_also_those_added_later(
    given, tmp_path, monkeypatch
):
    passed, ours = [], Forward.rows

    def rows(forward, packed, jobs):
        for job in (jobs := list(jobs)):
            passed.extend(job.tolist())
        return ours(forward, packed, jobs)

    monkeypatch.setattr(Forward, "rows", rows)
    words = [CONFIG, *given, f"--workdir={tmp_path}"]
    assert cli.main(["harvest", *words]) == 0
    n_sequences = len(store.tokens(tmp_path / "activations", "train")[0])
    assert sorted(passed) == [*range(n_sequences)]
    for lengths in ((2, 4), (2, 4, 6)):
        grid = ["--config.sweep.seed=(0,1)", f"--config.sweep.steps={lengths}"]
        assert cli.main(["train", *words, *grid]) == 0
    assert len(restore(tmp_path)) == 6
    assert len(passed) == n_sequences


def test_one_word_trains_and_evaluates_without_the_store(given, workdir, live):
    assert cli.main(["train", CONFIG, *given, f"--workdir={workdir}"]) == 0
    found = [json.loads((path / "metrics.json").read_text()) for path in (workdir, live[0])]
    a, b = (records["topk_n32_0"] for records in found)
    assert a.keys() == b.keys()
    assert a["ce_original"] == b["ce_original"]
    assert abs(a["explained_variance"] - b["explained_variance"]) < 0.1
    assert 0.1 < b["explained_variance"] < 1
    scales = [restore_run(path).norm.scale_in for path in (workdir, live[0])]
    assert scales[0] == pytest.approx(scales[1], rel=0.02)


def test_a_run_from_the_model_goes_on_to_the_bit(live):
    workdir, words = live
    before = restore_run(workdir)
    shutil.rmtree(workdir / "checkpoints" / str(before.step))
    assert restore_run(workdir).step < before.step
    assert cli.main(["train", CONFIG, *words]) == 0
    after = restore_run(workdir)
    assert after.step == before.step
    assert after.norm == before.norm
    jax.tree.map(np.testing.assert_array_equal, after.variables, before.variables)


@pytest.mark.parametrize("verb", ["train", "eval"])
def test_what_a_run_from_the_model_reads_may_not_change(live, capsys, verb):
    assert cli.main([verb, CONFIG, *live[1], "--config.harvest.held_out=0.3"]) == 1
    said = capsys.readouterr().err
    assert "held_out" in said
    assert "0.3" in said


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--config.taps=resid.{0,9}", "Unknown tap 'resid.9'"),
        ("--config.txet=x", "config has no 'txet'"),
        ("--config.harvest.txet=x", "config.harvest has no 'txet'; it takes taps, text"),
        ("--config.model=nowhere", "nknown model 'nowhere'"),
        ("--config.text=nowhere.jsonl", "nowhere.jsonl"),
    ],
)
def test_a_mistyped_word_is_answered_in_a_line(given, tmp_path, capsys, word, message):
    assert cli.main(["harvest", CONFIG, *given, word, f"--workdir={tmp_path / 'w'}"]) == 1
    err = capsys.readouterr().err.strip()
    assert message in err
    assert "\n" not in err
    assert not (tmp_path / "w" / "activations").exists()
