"""Runs that are moved, and runs whose data has changed, as the command line meets them."""

import json
import shutil

import numpy as np
import pytest

from dictlearn import cli
from tests.lm.toy import toy, write_gguf
from tests.streams.language import write_lm, write_text

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=""):
    stream = {"name": "npy", "path": arg} if arg else {"name": "store", "block_rows": 4}
    return ConfigDict({
        "seed": 0, "steps": 2, "batch_size": 8, "stream": stream,
        "dictionary": {"name": "topk", "n_latents": 8, "k": 2},
        "objective": {"name": "fvu"}, "rule": {"name": "adam", "lr": 1e-3},
        **({} if arg else {
            "model": {"name": "toy", "path": "toy.gguf"},
            "harvest": {"taps": "resid.0", "text": "text.txt", "sequence_length": 16, "shard_rows": 300,
                        "lm_batch": 4, "held_out": 0.3, "dtype": "float32"},
            "evaluate": {"n_tokens": 128, "n_sequences": 8},
        }),
    })
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.py").write_text(CONFIG)
    np.save("x.npy", rows(0))
    write_lm(tmp_path)
    write_text(tmp_path / "text.txt")
    return tmp_path


def rows(seed):
    return np.random.default_rng(seed).normal(size=(200, 4)).astype(np.float32)


def run(verb, workdir, *more, arg=""):
    return cli.main([verb, f"--config=config.py:{arg}", f"--workdir={workdir}", *more])


def test_a_run_is_moved_with_its_store_and_goes_on_under_every_spelling(here):
    assert run("harvest", "r") == run("train", "r") == 0
    (here / "link").symlink_to("r")
    for steps, spelt in enumerate(("r/", "./r", "link", here / "r"), start=3):
        assert run("train", spelt, f"--config.steps={steps}") == 0
    shutil.move("r", "moved")
    assert json.loads((here / "moved" / "config.json").read_text())["steps"] == 6
    assert cli.main(["eval", "--workdir=moved"]) == 0
    assert cli.main(["report", "--workdir=moved"]) == 0
    assert run("train", "moved", "--config.steps=7") == 0
    assert not (here / "r").exists()


def test_a_store_of_other_weights_is_neither_harvested_again_nor_trained_on(here, capsys):
    assert run("harvest", "r") == 0
    write_gguf(here / "toy.gguf", *toy(1))
    assert run("harvest", "r") == run("train", "r") == 1
    assert "model.sha256" in capsys.readouterr().err
    assert run("harvest", "r", "--allow_changed") == run("train", "r", "--allow_changed") == 0
    write_gguf(here / "toy.gguf", *toy(2))
    assert run("harvest", "r", "--allow_changed") == 0
    for verb in (["eval"], ["report"], ["analyse", "examples"]):
        assert cli.main([*verb, "--workdir=r"]) == 1, verb
        assert "toy (toy.gguf)" in capsys.readouterr().err
        assert cli.main([*verb, "--workdir=r", "--allow_changed"]) == 0, verb


@pytest.mark.parametrize("spelt", ["{}/x.npy", "link/x.npy", "copy.npy"])
def test_an_array_is_what_it_holds_and_not_where_it_lies(spelt, here):
    (here / "link").symlink_to(".")
    shutil.copy("x.npy", "copy.npy")
    assert run("train", "r", arg="x.npy") == 0
    assert run("train", "r", "--config.steps=3", arg=spelt.format(here)) == 0
    np.save(spelt.format(here), rows(1))
    assert run("train", "r", "--config.steps=4", arg=spelt.format(here)) == 1


def test_a_workdir_is_a_folder(here, capsys):
    assert run("train", "gs://bucket/run", arg="x.npy") == 1
    assert "gs://bucket/run" in capsys.readouterr().err
    assert not (here / "gs:").exists()
