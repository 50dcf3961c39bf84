"""Rules that reinitialise latents change the weights that the next step uses, and those latents fire."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dictlearn import experiment, rules
from dictlearn.experiment.stream import open_stream
from dictlearn.rules.adam import adam
from dictlearn.rules.redraw import redraw
from dictlearn.rules.resample import resample
from dictlearn.streams._place import place
from dictlearn.types import Batch, Firing
from tests.helpers import mesh_of, planted_config

DEAD = np.arange(8) < 3


def params():
    rows = jax.random.normal(jax.random.key(0), (8, 4))
    rows = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
    return {"W_enc_FD": 3 * rows, "W_dec_FD": rows, "b_enc_F": -jnp.ones(8), "b_dec_D": jnp.ones(4)}


def seen():
    x = jax.random.normal(jax.random.key(1), (16, 4))
    error = jnp.where(jnp.arange(16) == 5, 10.0, 1e-3)
    firing = Firing(jnp.where(DEAD, 0, 9), jnp.ones(8), jnp.asarray(DEAD))
    return {"firing": firing, "batch": Batch(x, x), "error_B": error}


def inner():
    return adam(1e-3, steps=100, warmup_steps=1, clip_norm=None)


def test_resampled_latents_are_the_worst_input_and_have_no_moments():
    rule, now = resample(inner(), every=2, until=2), params()
    state = rule.init(now)
    for step in (1, 2, 3):
        gradient = jax.tree.map(jnp.ones_like, now)
        updates, state = rule.update(gradient, state, now, **seen())
        after = optax.apply_updates(now, updates)
        if step == 2:
            x = seen()["batch"].x_BD[5] - seen()["batch"].x_BD.mean(0)
            atom = x / jnp.linalg.norm(x)
            alive = jnp.linalg.norm(now["W_enc_FD"], axis=1)[3:].mean()
            for latent in range(3):
                np.testing.assert_allclose(after["W_dec_FD"][latent], atom, atol=1e-5)
                row = after["W_enc_FD"][latent]
                np.testing.assert_allclose(row, 0.2 * alive * atom, atol=1e-5)
            np.testing.assert_array_equal(after["b_enc_F"][:3], 0)
            moments = [m for m in jax.tree.leaves(state.inner) if m.shape == (8, 4)]
            assert len(moments) == 4
            for moment in moments:
                np.testing.assert_array_equal(moment[:3], 0)
                assert np.abs(moment[3:]).min() > 0
        else:
            assert np.abs(after["W_enc_FD"] - now["W_enc_FD"]).max() < 0.01
        np.testing.assert_allclose(after["W_enc_FD"][3:], now["W_enc_FD"][3:], atol=0.01)
        now = after


def test_a_latent_that_just_fired_is_not_resampled():
    rule, now = resample(inner(), every=1), params()
    look = seen()
    look["firing"] = look["firing"]._replace(count_F=jnp.ones(8))
    updates, _ = rule.update(jax.tree.map(jnp.ones_like, now), rule.init(now), now, **look)
    assert np.abs(updates["W_enc_FD"]).max() < 0.01


def test_redrawing_leaves_no_two_atoms_close_and_the_first_of_each_alone():
    rule, now = redraw(inner(), every=1), params()
    twins = now["W_dec_FD"].at[5].set(now["W_dec_FD"][2]).at[6].set(now["W_dec_FD"][2])
    now = {**now, "W_dec_FD": twins}
    updates, _ = rule.update(jax.tree.map(jnp.zeros_like, now), rule.init(now), now)
    atoms = optax.apply_updates(now, updates)["W_dec_FD"]
    cosine = np.asarray(atoms @ atoms.T) - np.eye(8)
    assert cosine.max() < 0.9
    kept = [0, 1, 2, 3, 4, 7]
    np.testing.assert_allclose(atoms[np.array(kept)], twins[np.array(kept)], atol=1e-5)


def survivors(revive):
    """Of 32 latents whose bias is far below zero, how many fire in the end, under TopK without AuxK."""
    steps = 400
    config = planted_config(
        "topk",
        steps=steps,
        dictionary={"aux_k": 0, "k": 3},
        rule={"lr": 5e-3, "decay_fraction": 0.0},
        **({"revive": revive} if revive else {}),
    )
    mesh = mesh_of(1, 1, 1)
    with jax.set_mesh(mesh):
        stream = open_stream(config)
        (program,) = experiment.programs(config, stream.d_in, None)
        state = experiment.init(program, place(stream.batches[0], mesh), mesh)
        bias = state.variables["params"]["b_enc_F"]
        state.variables["params"]["b_enc_F"] = bias.at[:, :32].set(-2.0)
        update, fired = experiment.update(program, state, mesh), np.zeros(64)
        for t in range(steps):
            state, _ = update(state, program.hparams, place(stream.batches[t], mesh))
            if t >= steps - 20:
                fired += np.asarray(state.inner.silent_F[0]) == 0
    return int((fired[:32] > 0).sum())


@pytest.mark.parametrize(
    "revive",
    [
        {"name": "resample", "every": 50, "until": 150, "encoder_norm": 1.0},
        {"name": "reanimate", "coefficient": 1e-3},
    ],
    ids=lambda revive: revive["name"],
)
def test_latents_far_below_zero_come_alive(revive):
    assert survivors(None) <= 3
    assert survivors(revive) >= 20


def test_a_dictionary_without_the_leaves_is_refused():
    with pytest.raises(ValueError, match=r"resample.*W_enc_FD.*config\.revive"):
        rules.make("resample", inner=inner()).init({"W_dec_FD": jnp.ones((2, 2))})
