"""Conformance of every learner. A new file in the folder is tested without changes here."""

import inspect

import jax
import numpy as np
import pytest

from dictlearn import dictionaries, experiment, learners
from dictlearn.train import train
from tests.helpers import planted_config, run

every = pytest.mark.parametrize("name", learners.names())


def config_of(name, **changes):
    """A run of a dictionary that the learner makes: of its own, or TopK."""
    made = [d for d in dictionaries.names() if dictionaries.variant(d).learner == name]
    config = planted_config("topk" if "topk" in made or not made else made[0], **changes)
    if "rule" in config:
        config["rule"] |= {"lr": 1e-2, "decay_fraction": 0.0}
    known = {key for each in learners.functions(name) for key in inspect.signature(each).parameters}
    settings = {key: value for key, value in config["learner"].items() if key in known}
    return {**config, "learner": {**settings, "name": name}}


def atoms(states, program):
    return np.asarray(program.variables(states[program.key])["params"]["W_dec_FD"])


@every
def test_it_trains_and_its_loss_is_told_and_finite(name):
    (program,), states, infos = run(config_of(name, steps=50), 50)
    explained = [info[program.key]["explained_variance"][0] for info in infos]
    assert np.mean(explained[-5:]) > np.mean(explained[:5]) + 0.05
    told = infos[-1][program.key]
    assert np.isfinite(told["loss"]).all()
    assert {"explained_variance", "l0", "skipped", "give_up"} <= told.keys()
    assert np.isfinite(atoms(states, program)).all()


@every
def test_a_sweep_is_its_members_run_by_themselves_and_compiles_once(name):
    sweep = {"seed": (0, 1)}
    (program,), states, infos = run(config_of(name, sweep=sweep), 3)  # asserts one compilation
    for n, seed in enumerate(sweep["seed"]):
        alone = config_of(name, seed=seed, stream={"seed": 0})
        (one,), found, own = run(alone, 3)
        np.testing.assert_allclose(atoms(found, one)[0], atoms(states, program)[n], atol=2e-6)
        loss = infos[-1][program.key]["loss"][n]
        assert own[-1][one.key]["loss"][0] == pytest.approx(loss, rel=1e-5)


@every
def test_a_state_goes_on_from_where_it_was_left_to_the_bit(name):
    config = config_of(name, sweep={"seed": (0, 1)})
    (program,), whole, _ = run(config, 4)
    _, first, _ = run(config, 0)
    again = {program.key: jax.tree.map(np.array, first[program.key])}
    _, found, _ = run(config, 4, start=again)
    jax.tree.map(np.testing.assert_array_equal, found, whole)


@every
def test_a_killed_run_resumes_to_the_bit(name, tmp_path):
    whole = config_of(name, steps=6, checkpoint_every=3, log_every=1)
    train(whole, tmp_path / "whole")
    train({**whole, "steps": 3}, tmp_path / "parts")
    train(whole, tmp_path / "parts")
    lines = [(tmp_path / part / "metrics.jsonl").read_text() for part in ("whole", "parts")]
    assert lines[0] == lines[1]


@every
def test_what_it_does_not_read_is_refused_by_name(name):
    with pytest.raises(ValueError, match=r"'nonsense'.* name, "):
        experiment.check(config_of(name) | {"learner": {"name": name, "nonsense": 1}})


def test_an_unknown_learner_is_answered_with_those_there_are_without_the_wrappers():
    with pytest.raises(ValueError, match=r"'ksvd'.*gradient, itda"):
        experiment.check(planted_config(learner={"name": "ksvd"}))
    assert not {"ema", "skip_nonfinite"} & set(learners.names())
