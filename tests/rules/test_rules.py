"""Rules move parameters as their papers say."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dictlearn import rules
from dictlearn.rules.adam import adam
from dictlearn.rules.normalise_atoms import normalise_atoms
from dictlearn.rules.project_gradient import project_gradient


def params(key=0):
    rows = jax.random.normal(jax.random.key(key), (5, 4))
    return {"W_dec_FD": rows / jnp.linalg.norm(rows, axis=1, keepdims=True), "b_enc_F": jnp.ones(5)}


def gradients():
    return jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(7), leaf.shape), params())


def test_the_projected_gradient_is_orthogonal_to_its_atom_and_keeps_the_rest():
    updates, _ = project_gradient().update(gradients(), optax.EmptyState(), params())
    along = jnp.sum(updates["W_dec_FD"] * params()["W_dec_FD"], -1)
    np.testing.assert_allclose(along, 0, atol=1e-6)
    removed = gradients()["W_dec_FD"] - updates["W_dec_FD"]
    cosine = jnp.abs(jnp.sum(removed * params()["W_dec_FD"], -1)) / jnp.linalg.norm(
        removed, axis=-1
    )
    np.testing.assert_allclose(cosine, 1, atol=1e-5)
    np.testing.assert_array_equal(updates["b_enc_F"], gradients()["b_enc_F"])


def test_atoms_are_unit_rows_after_the_step_in_the_direction_of_the_update():
    updates, _ = normalise_atoms().update(gradients(), optax.EmptyState(), params())
    atoms = optax.apply_updates(params(), updates)["W_dec_FD"]
    moved = params()["W_dec_FD"] + gradients()["W_dec_FD"]
    wanted = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(atoms, wanted, atol=1e-6)


def steps(rule, n=6):
    found, state, seen = params(), None, []
    state = rule.init(found)
    for _ in range(n):
        updates, state = rule.update(gradients(), state, found)
        seen.append(updates)
        found = optax.apply_updates(found, updates)
    return found, seen


def test_without_projection_clipping_and_schedule_it_is_plain_adam():
    ours = adam(0.1, steps=100, warmup_steps=1, decay_fraction=0.0, clip_norm=None, unit_norm=False)
    found, _ = steps(ours)
    wanted, _ = steps(optax.adam(0.1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, wanted)


def test_the_learning_rate_warms_up_stays_and_decays_to_zero():
    rule = adam(1.0, steps=20, warmup_steps=4, decay_fraction=0.5, clip_norm=None, unit_norm=False)
    _, seen = steps(rule, 21)
    size = [
        float(jnp.abs(update["b_enc_F"]).mean()) for update in seen
    ]  # Adam's steps are of size lr
    np.testing.assert_allclose(size[:4], [0.25, 0.5, 0.75, 1.0], rtol=1e-4)
    np.testing.assert_allclose(size[4:11], 1.0, rtol=1e-4)
    np.testing.assert_allclose(size[11:], np.arange(9, -1, -1) / 10, rtol=1e-4, atol=1e-6)


def test_a_traced_learning_rate_is_a_number_like_any_other():
    one = lambda lr: steps(adam(lr, steps=50, warmup_steps=3))[0]["W_dec_FD"]
    swept = jax.vmap(one)(jnp.array([1e-3, 1e-2]))
    for n, lr in enumerate((1e-3, 1e-2)):
        np.testing.assert_allclose(swept[n], one(lr), rtol=1e-5, atol=1e-7)


def test_clipping_bounds_the_gradient_after_the_projection():
    rule = adam(1.0, steps=10, clip_norm=1e-3, b1=0.0, b2=0.0, eps=1.0, warmup_steps=1)
    _, (update,) = steps(rule, 1)
    assert float(jnp.abs(update["b_enc_F"]).max()) < 1e-3


def test_per_latent_the_second_moment_of_a_row_is_the_mean_of_its_squares():
    # Where all entries of a row have one size, that is Adam itself.
    even = lambda g: jnp.sign(g) * jnp.linalg.norm(g, axis=-1, keepdims=True) if g.ndim > 1 else g
    settings = {"steps": 100, "warmup_steps": 1, "clip_norm": None, "unit_norm": False}
    rule, plain = adam(0.1, per_latent=True, **settings), adam(0.1, **settings)
    states = [rule.init(params()), plain.init(params())]
    assert states[0].nu["W_dec_FD"].shape == (5, 1)
    assert states[0].nu["b_enc_F"].shape == (5,)
    for scale in (1.0, 3.0, 0.2):
        g = jax.tree.map(lambda leaf, scale=scale: scale * even(leaf), gradients())
        found, states[0] = rule.update(g, states[0], params())
        wanted, states[1] = plain.update(g, states[1], params())
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, wanted)
    # Otherwise the first step is the gradient over the root of its row's mean square, not its sign.
    first, _ = rule.update(gradients(), rule.init(params()), params())
    g = gradients()["W_dec_FD"]
    wanted = -0.1 * g / np.sqrt(np.mean(g**2, -1, keepdims=True))
    np.testing.assert_allclose(first["W_dec_FD"], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "adamv"}, "'adamv'.* adam, "),
        ({"name": "adam", "steps": 3, "rate": 1}, "'rate'.* lr, steps"),
    ],
)
def test_unknown_names_and_arguments_list_what_there_is(arguments, message):
    with pytest.raises(ValueError, match=message):
        rules.make(**arguments)


@pytest.mark.parametrize(("clip_norm", "unit_norm"), [(None, True), (0.5, True), (100.0, False)])
def test_adam_is_the_chain_of_its_parts(clip_norm, unit_norm):
    ours = adam(
        0.1, steps=9, warmup_steps=1, decay_fraction=0, clip_norm=clip_norm, unit_norm=unit_norm
    )
    parts = [project_gradient()] if unit_norm else []
    parts += [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    parts += [optax.adam(0.1)] + ([normalise_atoms()] if unit_norm else [])
    found, _ = steps(ours)
    wanted, _ = steps(optax.chain(*parts))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), found, wanted)


def test_adam_holds_less_than_the_chain_of_its_parts():
    shape = {"W_enc_FD": (512, 256), "W_dec_FD": (512, 256)}
    leaves = {name: jax.ShapeDtypeStruct(each, jnp.float32) for name, each in shape.items()}
    chain = [project_gradient(), optax.clip_by_global_norm(1.0), optax.adam(0.1), normalise_atoms()]

    def held(rule):
        def step(params, state, gradients):
            updates, state = rule.update(gradients, state, params)
            return optax.apply_updates(params, updates), state

        state = jax.eval_shape(rule.init, leaves)
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(leaves, state, leaves).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (512 * 256 * 4)

    assert held(adam(0.1, steps=9)) < 1.1 < 2 < held(optax.chain(*chain))
