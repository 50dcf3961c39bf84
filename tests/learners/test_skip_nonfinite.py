"""A step whose loss or gradient is not finite leaves a member unchanged, and is counted and located."""

import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import experiment
from dictlearn.experiment.stream import open_stream
from dictlearn.learners import skip_nonfinite, with_variables
from dictlearn.learners._finite import all_finite
from dictlearn.runs.trained import restore_run
from dictlearn.streams._place import place
from dictlearn.train import Diverged, train
from dictlearn.types import Learner
from tests.helpers import mesh_of, planted_config


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_found(value):
    largest = jnp.full((64, 3), jnp.finfo(jnp.float32).max)
    find = jax.jit(all_finite)
    assert find((largest, -largest, jnp.int32(1)))
    assert not find((largest, largest.at[63, 2].set(value), jnp.int32(1)))


def update_of(config, mesh):
    """(state, stream, update, hparams) of the one program of a config."""
    stream = open_stream(config)
    (program,) = experiment.programs(config, stream.d_in, None)
    batch = lambda t: place(stream.batch(t), mesh)
    state = experiment.init(program, batch(0), mesh)
    return state, batch, experiment.update(program, state, mesh), program.hparams


def same(a, b, member=slice(None)):
    a, b = (jax.tree.leaves(jax.tree.map(lambda leaf: np.array(leaf)[member], s)) for s in (a, b))
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


def plain(state):
    """All but the counters, copied: the update donates its state."""
    return jax.tree.map(np.array, state.inner)


def spoiled(batch):
    x_BD = batch.x_BD.at[3, 1].set(jnp.nan)
    return batch._replace(x_BD=x_BD, y_BD=x_BD)


@pytest.mark.parametrize("name", ["batch_topk", "itda"])
def test_a_batch_that_is_not_finite_changes_nothing_but_the_counters(name):
    mesh = mesh_of(1, 1, 1)
    with jax.set_mesh(mesh):
        state, batch, update, hparams = update_of(planted_config(name), mesh)
        state, info = update(state, hparams, batch(0))
        assert (info["skipped"], info["bad_batch"]) == (0, -1)
        before = plain(state)
        state, info = update(state, hparams, spoiled(batch(1)))
        assert same(plain(state), before)
        assert (info["skipped"], info["bad_batch"], info["give_up"]) == (1, 1, False)
        state, info = update(state, hparams, batch(2))
        assert not same(plain(state), before)
        assert (info["skipped"], info["bad_batch"], int(state.inner.step[0])) == (1, 1, 2)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(plain(state)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 1)], ids=["in_turn", "side_by_side"])
def test_only_the_member_that_is_not_finite_stands_still(shape):
    mesh, config = mesh_of(*shape), planted_config(sweep={"k": (2, 3)})
    with jax.set_mesh(mesh):
        state, batch, update, hparams = update_of(config, mesh)
        bias = state.variables["params"]["b_dec_D"].at[1, 0].set(jnp.inf)
        params = {**state.variables["params"], "b_dec_D": bias}
        state = with_variables(state, {**state.variables, "params": params})
        before = plain(state)
        state, info = update(state, hparams, batch(0))
        assert info["skipped"].tolist() == [0, 1]
        assert info["bad_batch"].tolist() == [-1, 0]
        assert same(plain(state), before, member=1)
        assert not same(plain(state), before, member=0)
        assert np.isfinite(np.array(state.variables["params"]["W_enc_FD"])[0]).all()


def test_without_the_guard_one_bad_token_spoils_the_dictionary(monkeypatch):
    module = importlib.import_module("dictlearn.learners.gradient")
    monkeypatch.setattr(module, "all_finite", lambda tree: jnp.array(True))
    mesh = mesh_of(1, 1, 1)
    with jax.set_mesh(mesh):
        state, batch, update, hparams = update_of(planted_config(), mesh)
        state, _ = update(state, hparams, spoiled(batch(0)))
        assert np.isnan(np.array(state.variables["params"]["W_enc_FD"])).any()


def test_past_the_limit_the_run_ends_and_says_which_batch_it_read_last(tmp_path):
    config = planted_config(rule={"lr": 1e30}, learner={"max_skipped": 3}, steps=20, log_every=1)
    message = r"topk_n64_0 skipped 4 steps .* batch 4 .*seed 0 .*bad_batch.json"
    with pytest.raises(Diverged, match=message):
        train(config, tmp_path / "few")
    found = json.loads((tmp_path / "few" / "bad_batch.json").read_text())
    assert found == {"dictionary": "topk_n64_0", "batch": 4, "seed": 0, "skipped": 4}
    config["learner"]["max_skipped"] = 30
    train(config, tmp_path / "many")
    (variables,) = restore_run(tmp_path / "many").variables.values()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


def test_a_limit_below_zero_is_refused():
    with pytest.raises(ValueError, match="limit=-1"):
        skip_nonfinite(Learner(*[lambda *_: None] * 3), -1)
