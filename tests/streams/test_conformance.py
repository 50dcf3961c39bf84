"""Conformance of every stream: dictionaries train on it, resume to the bit, and are evaluated.

ARGUMENTS has the arguments of each stream; a stream without an entry, such as a drop-in, is opened without
any."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from dictlearn import lm as language
from dictlearn import streams
from dictlearn.evaluate import evaluate
from dictlearn.experiment import models
from dictlearn.experiment.stream import open_stream, origin
from dictlearn.harvest import harvest
from dictlearn.runs.trained import restore_run
from dictlearn.streams._fingerprint import differ
from dictlearn.train import train
from tests.lm.toy import SPEC, toy, write_gguf

TAPS = ("resid.0", "resid.1")
WITHOUT_FILES = ("synthetic", "dropped_in")
RECIPE = {"sequence_length": 16, "lm_batch": 8, "held_out": 0.3, "dtype": "float32"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return build(tmp_path_factory.mktemp("home"), 0)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A home with other content everywhere."""
    return build(tmp_path_factory.mktemp("elsewhere"), 7)


def build(home, seed):
    """Two models of one tokenizer, a text, a store of each model, and an array."""
    random = np.random.default_rng(seed)
    words = [" ".join(map(str, random.integers(0, 1000, 12))) for _ in range(60)]
    (home / "text.txt").write_text("\n\n".join(words))
    for i, name in enumerate(("base", "chat")):
        spec = dataclasses.replace(SPEC, n_layers=2)
        path = write_gguf(home / f"{name}.gguf", *toy(seed + i, spec))
        own = {"text": home / "text.txt", "shard_rows": 600, **RECIPE}
        harvest(language.load(name, path=path), home / name, TAPS, **own)
    np.save(home / "rows.npy", random.standard_normal((2000, 12)).astype(np.float32))
    return home


def config_of(name, home):
    """A config that trains on the stream and can be evaluated."""
    base, chat = ({"name": one, "path": str(home / f"{one}.gguf")} for one in ("base", "chat"))
    recipe = {"taps": TAPS, "text": str(home / "text.txt"), **RECIPE}
    own = {
        "store": {"stream": {"path": str(home / "base"), "tap": TAPS[0], "block_rows": 8}},
        "one_of_taps": {"stream": {"path": str(home / "base"), "taps": TAPS, "block_rows": 8}},
        "stores_side_by_side": {
            "stream": {
                **{"paths": (str(home / "base"), str(home / "chat")), "tap": TAPS[1]},
                "block_rows": 8,
            },
            "models": {"first": base, "second": chat},
            "dictionary": {"name": "crosscoder", "n_latents": 32, "k": 4, "sources": 2},
        },
        "from_lm": {"stream": {"tap": TAPS[0], "target": TAPS[1]}, "harvest": recipe},
        "npy": {"stream": {"path": str(home / "rows.npy")}},
    }.get(name, {})
    config = {
        "seed": 0,
        "steps": 6,
        "batch_size": 64,
        "checkpoint_every": 2,
        "dictionary": {"name": "topk", "n_latents": 32, "k": 4},
        "objective": {"name": "fvu"},
        "rule": {"name": "adam", "lr": 1e-3},
        "evaluate": {"n_tokens": 512, "n_sequences": 8},
        **own,
    }
    config["stream"] = {"name": name, "normalise": "unit_mean_sq", **config.get("stream", {})}
    if name not in ("npy", "synthetic", "stores_side_by_side"):
        config["model"] = base
    return config


@pytest.mark.parametrize("name", streams.names())
def test_dictionaries_train_on_it_resume_to_the_bit_and_are_evaluated(name, home, tmp_path):
    config = config_of(name, home)
    train(config, tmp_path / "whole", opened=lambda stream: models.check(config, stream))
    train({**config, "steps": 4}, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "4")
    train(config, tmp_path / "cut")
    whole, cut = (restore_run(tmp_path / one) for one in ("whole", "cut"))
    assert whole.step == cut.step
    same = lambda a, b: jax.tree.map(np.testing.assert_array_equal, a, b)
    same((whole.variables, whole.norm), (cut.variables, cut.norm))
    (record,) = evaluate(config, tmp_path / "whole").values()
    assert np.isfinite(record["explained_variance"])
    known = origin(config)
    assert ("ce_score" in record) == (known is not None)
    assert json.loads((tmp_path / "whole" / "metrics.json").read_text())


def read_by(config):
    """Every file and folder that the config's stream reads."""
    read = [config["stream"]]
    if streams.runs_model(config["stream"]["name"]):
        read += [config["model"], config["harvest"]]
    values = [value for subtree in read for value in subtree.values()]
    every = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return [Path(one) for one in every if isinstance(one, str) and Path(one).exists()]


def replace(path, by):
    """Makes what is at `path` what `by` is."""
    if path.is_dir():
        shutil.rmtree(path)
        shutil.copytree(by, path)
    else:
        shutil.copy(by, path)


def fingerprint(config):
    """That of the config's stream, without opening it where its origin says as much."""
    known = origin(config)
    return open_stream(config).fingerprint if known is None else streams.fingerprint(known)


@pytest.mark.parametrize("name", streams.names())
def test_other_data_at_the_same_path_is_another_fingerprint(name, home, elsewhere, tmp_path):
    here = shutil.copytree(home, tmp_path / "here")
    config = config_of(name, here)
    assert (name in WITHOUT_FILES) == (not read_by(config))
    before = open_stream(config).fingerprint
    assert json.loads(json.dumps(before)) == before
    assert open_stream(config_of(name, home)).fingerprint == before
    assert fingerprint(config) == before
    for path in read_by(config):
        replace(path, elsewhere / path.relative_to(here))
        assert list(differ(before, fingerprint(config))), path
        replace(path, home / path.relative_to(here))
        assert fingerprint(config) == before, path


@pytest.mark.parametrize("name", streams.names())
def test_it_says_where_it_comes_from_before_it_is_opened(name, home):
    config = config_of(name, home)
    stream, said = open_stream(config), origin(config)
    plain = lambda found: found and [one._replace(held_out=None) for one in found]
    assert plain(stream.origin) == plain(said)
    if said is None:
        return
    tokens_ST, mask_ST = said[0].held_out()
    assert tokens_ST.shape == mask_ST.shape
    assert len(tokens_ST) >= models.SEQUENCES
    for one in said:
        assert {"file", "sha256"} <= one.model.keys()
        assert set(one.read) | set(one.written) <= set(TAPS)
        assert one.text == said[0].text
    assert all(one.path is None for one in said) == streams.runs_model(name)
    parts = 1 if said[0].scales else sum(len(one.read) for one in said)
    assert stream.d_in == parts * SPEC.d_model


def test_a_crosscoder_of_two_models_is_scored_in_both_and_one_that_keeps_a_side_there(
    home, tmp_path
):
    config = config_of("stores_side_by_side", home)
    train(config, tmp_path)
    (record,) = evaluate(config, tmp_path).values()
    sides = record["sides"]
    assert list(sides) == ["first", "second"]
    tokens = [side["ce_tokens"] for side in sides.values()]
    assert tokens[0] == tokens[1] == record["ce_tokens"] / 2
    assert sides["first"]["ce_original"] != sides["second"]["ce_original"]
    pooled = np.mean([side["ce_spliced"] for side in sides.values()])
    assert record["ce_spliced"] == pytest.approx(pooled, rel=1e-6)


def test_each_tap_of_a_group_is_measured_as_a_dictionary_of_that_tap_alone_would_be(home, tmp_path):
    config = config_of("one_of_taps", home)
    alone = {**config, "stream": {**config["stream"], "taps": TAPS[:1]}}
    train(alone, tmp_path / "group")
    kept = {key: config["stream"][key] for key in ("path", "block_rows", "normalise")}
    store = {**config, "stream": {"name": "store", "tap": TAPS[0], **kept}}
    train(store, tmp_path / "alone")
    (grouped,) = evaluate(alone, tmp_path / "group").values()
    (single,) = evaluate(store, tmp_path / "alone").values()
    for metric in ("explained_variance", "ce_score", "kl", "l0", "dead_fraction"):
        assert grouped["sides"][TAPS[0]][metric] == pytest.approx(single[metric], rel=1e-4), metric


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("store", {"model": {}}, ("store", "config.model")),
        ("stores_side_by_side", {"models": {}}, ("stores_side_by_side", "config.models")),
        ("npy", {"stream": {"held_out": 0.0}}, ("npy", "stream.held_out")),
    ],
)
def test_what_could_not_be_evaluated_is_refused_before_it_is_trained(
    name, change, words, home, tmp_path
):
    config = config_of(name, home)
    for key, value in change.items():
        config[key] = {**config[key], **value} if value else value
    with pytest.raises(ValueError, match=words[0]) as error:
        train(config, tmp_path, opened=lambda stream: models.check(config, stream))
    assert all(word in str(error.value) for word in words)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_a_model_of_other_weights_is_refused_by_name(home):
    config = config_of("stores_side_by_side", home)
    del config["models"]["second"]
    with pytest.raises(ValueError, match=r"chat \(chat.gguf\).*first \(base.gguf\)"):
        models.check(config, open_stream(config))
