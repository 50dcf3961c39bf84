"""A run continues and is evaluated on the data that it was trained on; other data is refused or reported."""

import json
import logging
import shutil
from typing import Any

import numpy as np
import pytest

from dictlearn.evaluate import evaluate
from dictlearn.runs.trained import restore_run
from dictlearn.streams._fingerprint import differ
from dictlearn.train import train


def rows(seed=0, n=120):
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def config_of(folder, steps=2, **stream):
    """A run on `x.npy` with `y.npy` as its targets."""
    paths = {"path": str(folder / "x.npy"), "target_path": str(folder / "y.npy")}
    return {
        "seed": 0,
        "steps": steps,
        "batch_size": 8,
        "stream": {"name": "npy", **paths, "held_out": 0.2, **stream},
        "dictionary": {"name": "topk", "n_latents": 8, "k": 2},
        "objective": {"name": "fvu"},
        "rule": {"name": "adam", "lr": 1e-3},
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(("x", "y")):
        np.save(folder / f"{name}.npy", rows(seed))
    train(config_of(folder), folder / "run")
    return folder


@pytest.fixture
def home(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "home")


def one_value_changed(home):
    x_ND = rows(0)
    x_ND[-1, -1] += 1e-3
    np.save(home / "x.npy", x_ND)


CHANGES = {
    "other rows": (lambda home: np.save(home / "x.npy", rows(7)), "rows"),
    "one value": (one_value_changed, "rows"),
    "more rows": (lambda home: np.save(home / "x.npy", rows(0)[:110]), "rows"),
    "other targets": (lambda home: np.save(home / "y.npy", rows(7)), "targets"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_data_is_refused_by_name_and_allowed_with_a_word(change, home, caplog):
    alter, named = CHANGES[change]
    config = config_of(home, steps=3)
    alter(home)
    if change == "more rows":
        np.save(home / "y.npy", rows(1)[:110])
    before = {file: file.read_bytes() for file in (home / "run").rglob("*") if file.is_file()}
    for work in (train, evaluate):
        with pytest.raises(ValueError, match=named) as error:
            work(config, home / "run")
        assert "--allow_changed" in str(error.value)
    assert {
        file: file.read_bytes() for file in (home / "run").rglob("*") if file.is_file()
    } == before
    with caplog.at_level(logging.WARNING, "dictlearn"):
        evaluate(config, home / "run", allow_changed=True)
        train(config, home / "run", allow_changed=True)
    assert sum(named in record.getMessage() for record in caplog.records) == 2
    assert restore_run(home / "run").step == 3
    caplog.clear()
    train(config_of(home, steps=4), home / "run")
    assert not caplog.records


def test_what_is_held_out_is_data_too(home):
    with pytest.raises(ValueError, match="held_out"):
        evaluate(config_of(home, held_out=0.5), home / "run")


def test_the_same_data_elsewhere_is_the_same(home, monkeypatch):
    (home / "data").mkdir()
    for name in ("x", "y"):
        (home / f"{name}.npy").rename(home / "data" / f"{name}.npy")
    (home / "run").rename(home / "moved")
    monkeypatch.chdir(home)
    paths: dict[str, Any] = {"path": "data/x.npy", "target_path": "./data/../data/y.npy"}
    train(config_of(home, steps=3, **paths), home / "moved")
    evaluate(config_of(home, **paths), home / "moved")


@pytest.mark.parametrize(
    ("change", "named"), [({"seed": 1}, "seed"), ({"stream": {"kind": "p2"}}, "kind")]
)
def test_another_planted_set_is_other_data(change, named, tmp_path):
    config = {**config_of(tmp_path), "stream": {"name": "synthetic", "kind": "p1", "d_in": 4}}
    config["stream"] |= {"n_features": 8, "sparsity": 1.0}
    train(config, tmp_path / "run")
    other = {
        key: {**config[key], **value} if isinstance(value, dict) else value
        for key, value in change.items()
    }
    with pytest.raises(ValueError, match=named):
        evaluate({**config, **other}, tmp_path / "run")


def test_a_warm_start_from_another_run_is_another_config(home):
    for name in ("a", "b"):
        shutil.copytree(home / "run", home / name)
    start = {"start": {"workdir": str(home / "a")}}
    train({**config_of(home), **start}, home / "warm")
    again = {**config_of(home, steps=3), "start": {"workdir": f"{home}/./a/"}}
    train(again, home / "warm")
    with pytest.raises(ValueError, match=r"start\.workdir"):
        train({**again, "start": {"workdir": str(home / "b")}}, home / "warm")


def test_the_fingerprint_is_part_of_a_checkpoint(home):
    (record,) = (home / "run" / "checkpoints").glob("*/record.json")
    data = json.loads(record.read_text())["meta"]["data"]
    assert restore_run(home / "run").data == data
    assert data.keys() == {"held_out", "rows", "targets"}


@pytest.mark.parametrize(
    ("was", "now", "named"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": "x", "c": 2}}, {"a": {"b": "y", "c": 2}}, ["a.b"]),
        ({"a": 1}, {}, ["a"]),
        ({}, {"a": {"b": 1}, "c": [1]}, ["a", "c"]),
        ({"model": {"name": "m", "file": "f"}}, {"model": {"name": "n", "file": "g"}}, []),
        ({"model": {"sha256": "0" * 64}}, {"model": {"sha256": "1" * 64}}, ["model.sha256"]),
    ],
)
def test_what_differs_is_named_by_its_place_but_names_themselves_do_not_count(was, now, named):
    assert [phrase.split()[0] for phrase in differ(was, now)] == named
