"""Optimisers by name are optax's own, between our projections."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from dictlearn import dictionaries, learners, objectives, rules
from dictlearn.learners.gradient import gradient
from dictlearn.rules._optax import OPTIMISERS
from dictlearn.rules.normalise_atoms import normalise_atoms
from dictlearn.rules.project_gradient import project_gradient
from dictlearn.types import Batch, Firing


def params():
    rows = jax.random.normal(jax.random.key(0), (6, 4))
    rows /= jnp.linalg.norm(rows, axis=1, keepdims=True)
    return {"W_enc_FD": 2 * rows, "W_dec_FD": rows, "b_enc_F": jnp.ones(6)}


def after(rule, steps=4):
    """The parameters after some steps towards zero, with some noise."""
    noise = lambda leaf, t: leaf + jax.random.normal(jax.random.key(t), leaf.shape)

    def step(carry, t):
        found, state = carry
        pull = jax.tree.map(lambda leaf: noise(leaf, t), found)
        updates, state = rule.update(pull, state, found)
        return (optax.apply_updates(found, updates), state), None

    begin = (params(), rule.init(params()))
    return jax.jit(lambda: jax.lax.scan(step, begin, jnp.arange(steps))[0][0])()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_it_is_optaxs_own_between_the_projections(name):
    """Weight decay and whatever else reads the rate has it as a number would be read."""
    given = {"steps": 100, "warmup_steps": 0, "schedule": "constant"}
    ours = rules.make(name, lr=0.03, clip_norm=0.5, **given)
    parts = [project_gradient(), optax.clip_by_global_norm(0.5), OPTIMISERS[name](0.03)]
    wanted = after(optax.chain(*parts, normalise_atoms()))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    jax.tree.map(close, after(ours), wanted)


def test_it_has_optaxs_arguments_and_those_of_adam():
    lion = rules.make("lion", lr=0.1, steps=9, b1=0.5, weight_decay=0.3, schedule="cosine")
    assert (after(lion)["b_enc_F"] != after(rules.make("lion", lr=0.1, steps=9))["b_enc_F"]).all()
    with pytest.raises(ValueError, match=r"'momentum'.* lr, steps, .*clip_norm.* b1, b2"):
        rules.make("lion", momentum=0.9)


def test_a_rate_that_optax_has_no_default_for_must_be_given():
    with pytest.raises(ValueError, match=r"config\.rule\.lr"):
        rules.make("lion", steps=9)
    plain = rules.make("prodigy", steps=9, warmup_steps=0)
    wanted = after(rules.make("prodigy", lr=1.0, steps=9, warmup_steps=0))
    jax.tree.map(np.testing.assert_array_equal, after(plain), wanted)


def learner(rule):
    module = dictionaries.make("topk", d_in=8, n_latents=16, k=2)
    return gradient(module, objectives.make("fvu"), rule)


@pytest.mark.parametrize("wrapped", [False, True])
def test_schedule_free_training_gives_the_mean_of_its_iterates(wrapped):
    rule = rules.make("schedule_free_sgd", lr=1.0, steps=20, warmup_steps=0, schedule="constant")
    rule = rules.make("reanimate", inner=rule, coefficient=0.0) if wrapped else rule
    one, x_BD = learner(rule), jax.random.normal(jax.random.key(0), (64, 8))
    state, iterates = one.init(jax.random.key(1), Batch(x_BD, x_BD)), []
    update = jax.jit(one.update)
    for _ in range(20):
        state, _ = update(state, Batch(x_BD, x_BD))
        (free,) = [s for s in state.rule if isinstance(s, contrib.ScheduleFreeState)]
        iterates.append(free.z["W_enc_FD"])
    read = one.variables(state)["params"]["W_enc_FD"]
    np.testing.assert_allclose(read, np.mean(iterates, 0), atol=1e-5)
    norms = np.linalg.norm(one.variables(state)["params"]["W_dec_FD"], axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    trained = state.variables["params"]["W_enc_FD"]
    np.testing.assert_allclose(trained, 0.9 * read + 0.1 * iterates[-1], atol=1e-5)
    assert np.abs(read - trained).max() > 1e-3


def test_a_bias_that_a_wrapper_moves_is_evaluated_where_it_was_moved():
    inner = rules.make("schedule_free_sgd", lr=0.1, steps=9, warmup_steps=0)
    rule = rules.make("adapt_bias", inner=inner, every=1, l0=0.1)
    now, x_BD = params(), jnp.ones((16, 4))
    firing = Firing(jnp.full(6, 9), jnp.ones(6), jnp.zeros(6, bool))
    extra = {"firing": firing, "batch": Batch(x_BD, x_BD), "error_B": jnp.ones(16)}
    state = rule.init(now)
    for _ in range(3):
        updates, state = rule.update(now, state, now, **extra)
        now = optax.apply_updates(now, updates)
    found = rules.evaluated(state, now)
    assert (now["b_enc_F"] < 0.99).all()
    np.testing.assert_allclose(found["b_enc_F"], now["b_enc_F"], rtol=1e-6)
    assert np.abs(found["W_enc_FD"] - now["W_enc_FD"]).max() > 1e-3


@pytest.mark.parametrize("name", ["schedule_free_adamw", "prodigy", "dowg", "cocob", "madgrad"])
def test_a_run_that_begins_from_other_dictionaries_begins_there_wholly(name):
    one = learner(rules.make(name, lr=1e-2, steps=9, warmup_steps=0))
    x_BD = jax.random.normal(jax.random.key(0), (16, 8))
    batch = Batch(x_BD, x_BD)
    first, other = (one.init(jax.random.key(seed), batch) for seed in (1, 2))
    found = learners.with_variables(first, other.variables)
    jax.tree.map(np.testing.assert_array_equal, found, other)
    update = jax.jit(one.update, donate_argnums=0)
    moved, _ = update(found, batch)
    wanted, _ = jax.jit(one.update)(one.init(jax.random.key(2), batch), batch)
    jax.tree.map(np.testing.assert_array_equal, moved, wanted)


def test_others_are_evaluated_as_they_are_trained():
    one, x_BD = learner(optax.sgd(0.1)), jnp.ones((4, 8))
    state = one.init(jax.random.key(1), Batch(x_BD, x_BD))
    assert one.variables(state) is state.variables


@pytest.mark.parametrize("name", ["schedule_free_adamw", "prodigy", "dowg", "cocob", "madgrad"])
def test_where_a_latent_starts_anew_what_holds_parameters_holds_its_new_ones(name):
    """A zero in the place of an iterate, or of the point it began at, would be a step of its own."""
    inner = rules.make(name, lr=1e-3, steps=9, warmup_steps=0)
    rule, now = rules.make("resample", inner=inner, every=1, encoder_norm=1.0), params()
    x_BD = jax.random.normal(jax.random.key(3), (16, 4))
    dead_F = jnp.arange(6) < 2
    firing = Firing(jnp.where(dead_F, 0, 9), jnp.ones(6), dead_F)
    extra = {"firing": firing, "batch": Batch(x_BD, x_BD), "error_B": jnp.ones(16)}
    updates, state = rule.update(now, rule.init(now), now, **extra)
    fresh = optax.apply_updates(now, updates)
    for leaf in ("W_enc_FD", "W_dec_FD"):
        held = [
            value
            for path, value in jax.tree_util.tree_leaves_with_path(state)
            if getattr(path[-1], "key", None) == leaf
        ]
        points = [value for value in held if np.allclose(value[:2], fresh[leaf][:2], atol=1e-5)]
        assert len(points) == 1
        others = [value for value in held if value is not points[0]]
        for value in others:
            np.testing.assert_array_equal(value[:2], 0)
