"""A key that the command line sets wins, or is refused with both names."""

import logging
from argparse import Namespace

import pytest

from dictlearn.cli.config import read, resolve
from dictlearn.experiment import members
from dictlearn.experiment.values import to_json
from dictlearn.runs.workdir import write_json

FILE = """
from ml_collections import ConfigDict
def get_config(arg="one"):
    c = ConfigDict()
    c.seed, c.steps, c.batch_size = 0, 6, 32
    c.stream = {"name": "npy", "path": "x.npy"}
    c.dictionary = {"name": "topk", "k": 4}
    c.objective = {"name": "fvu"}
    c.rule = {"name": "adam"}
    c.sweep = {"n_latents": (64, 128), "dictionary": {"k": (8, 16)}}
    c.sweep.update({"rule": {"lr": (1e-3, 1e-4)}, "seed": (0, 1)})
    if arg == "members":
        c.members = {
            "a": {"dictionary": {"k": 5}},
            "b": {"dictionary": {}, "sweep": {"k": (6, 7)}},
            "i": {"dictionary": {"name": "itda"}, "learner": {"name": "itda"}},
        }
        c.sweep = {"n_latents": (64, 128)}
    return c
"""


@pytest.fixture
def given(tmp_path):
    file = tmp_path / "c.py"
    file.write_text(FILE)
    return lambda *words, arg="": read(file, arg, words)


def cells(config) -> set:
    return {
        (m.hparams["dictionary"]["n_latents"], m.hparams["dictionary"]["k"])
        for m in members(config)
    }


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), {(64, 8), (64, 16), (128, 8), (128, 16)}),
        (("--config.dictionary.n_latents=32",), {(32, 8), (32, 16)}),
        (("--config.dictionary.k=3",), {(64, 3), (128, 3)}),
        (("--config.dictionary.k=3", "--config.dictionary.n_latents=32"), {(32, 3)}),
        (("--config.sweep.dictionary.k=(2,)", "--config.dictionary.n_latents=32"), {(32, 2)}),
    ],
)
def test_a_set_key_takes_the_place_of_the_files_sweep_over_it(given, caplog, words, found):
    with caplog.at_level(logging.WARNING):
        assert cells(given(*words)) == found
    told = [word for word in words if word.startswith("--config.dictionary.")]
    assert len(caplog.records) == len(told)
    assert all(word[2:].partition("=")[0] in caplog.text for word in told)


def test_the_seed_and_a_rate_that_are_set_are_not_swept(given):
    found = members(given("--config.seed=5", "--config.rule.lr=0.5"))
    assert {m.hparams["seed"] for m in found} == {5}
    assert {m.hparams["rule"]["lr"] for m in found} == {0.5}
    assert len(found) == 4


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("dictionary.k=3", "sweep.dictionary.k=(4,)"), ("dictionary.k", "sweep.dictionary.k")),
        (("seed=3", "sweep.seed=(4,)"), ("seed", "sweep.seed")),
    ],
)
def test_a_key_and_a_sweep_over_it_that_are_both_set_are_refused(given, words, named):
    with pytest.raises(ValueError, match="set") as caught:
        given(*(f"--config.{word}" for word in words))
    assert all(f"config.{name} " in str(caught.value) for name in named)


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("dictionary.k=3", "members.a.dictionary.k"),
        ("sweep.k=(3,)", "members.b.sweep.k"),
        ("sweep.dictionary.k=(3,)", "members.b.sweep.k"),
        ("learner.dead_after=3", "members.i.learner.name"),
        ("members.a.dictionary.n_latents=3", "sweep.n_latents"),
    ],
)
def test_what_a_member_or_a_shared_sweep_would_replace_is_refused(given, word, other):
    with pytest.raises(ValueError, match="set") as caught:
        given(f"--config.{word}", arg="members")
    key = word.partition("=")[0]
    assert f"config.{key} " in str(caught.value)
    assert f"config.{other} " in str(caught.value)


def test_a_members_own_key_takes_the_place_of_its_own_sweep(given):
    found = members(given("--config.members.b.dictionary.k=2", arg="members"))
    assert [m.hparams["dictionary"]["k"] for m in found if m.label == "b"] == [2, 2]


def test_a_verb_on_a_run_refuses_a_config_that_is_not_the_runs(given, tmp_path):
    config = given("--config.dictionary.k=3")
    write_json(tmp_path / "config.json", to_json(config))
    flags = Namespace(verb="eval", config=str(tmp_path / "c.py"), workdir=str(tmp_path))
    words = ["--config.dictionary.k=3", "--config.evaluate.n_tokens=7", "--config.steps=9"]
    found, _ = resolve(flags, words, True)
    assert found["evaluate"] == {"n_tokens": 7}
    with pytest.raises(ValueError, match=r"dictionary\.k=3, not 5"):
        resolve(flags, ["--config.dictionary.k=5"], True)
    assert resolve(flags, ["--config.dictionary.k=5"], False)[0]["dictionary"]["k"] == 5
