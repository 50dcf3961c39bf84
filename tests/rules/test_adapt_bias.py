"""Bias adaptation: the algorithm as published, by itself and with other dictionaries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dictlearn import dictionaries, rules
from dictlearn.ops.initialise import unit_rows
from dictlearn.types import Batch, Firing
from tests.helpers import mesh_of, planted_config, run

RATE = 0.01


def made(**arguments):
    inner = optax.with_extra_args_support(optax.identity())
    return rules.make("adapt_bias", inner=inner, **arguments)


def seen(count, largest, target=None, tokens=100):
    x = jnp.zeros((tokens, 2))
    dead = jnp.zeros(len(count), bool)
    target = None if target is None else jnp.asarray(target, jnp.float32)
    firing = Firing(jnp.asarray(count), jnp.asarray(largest, jnp.float32), dead, target)
    return {"firing": firing, "batch": Batch(x, x), "error_B": jnp.zeros(tokens)}


def test_it_is_the_algorithm_as_written():
    """Two groups of three; two windows of two steps; every branch and both clips are met."""
    target = np.repeat([0.1, 0.01], 3)
    bias = np.array([-0.5, -0.995, -0.002, -0.3, -0.001, 0.0], np.float32)
    random = np.random.default_rng(0)
    rule, params = made(every=2), {"b_enc_F": jnp.asarray(bias), "W_dec_FD": jnp.ones((6, 2))}
    state, ones = rule.init(params), jax.tree.map(jnp.ones_like, params)
    update = jax.jit(lambda state, params, look: rule.update(ones, state, params, **look))
    for window in range(2):
        count, largest = np.zeros(6), np.full(6, -np.inf)
        for step in range(2):
            fired = random.integers(0, 30, 6) * [1, 1, 0, 0, 1, 0]
            most = np.where(fired > 0, random.uniform(0.5, 2, 6), random.uniform(-1, 0, 6))
            count, largest = count + fired, np.maximum(largest, most)
            updates, state = update(state, params, seen(fired, most, target))
            if step == 0:
                np.testing.assert_array_equal(updates["b_enc_F"], 0)
            params = optax.apply_updates(params, updates)
        p, r = count / 200, np.maximum(largest, 0)
        for m in range(6):
            group = r[m // 3 * 3 : m // 3 * 3 + 3]
            if p[m] > target[m]:
                bias[m] = max(bias[m] - RATE * r[m], -1)
            elif p[m] < 1e-6:
                bias[m] = min(bias[m] + RATE * group[group > 0].mean(), 0)
        np.testing.assert_allclose(params["b_enc_F"], bias, atol=1e-6, err_msg=f"{window=}")
    assert bias[1] == -1
    assert bias[2] == bias[5] == 0


@functools.cache
def frozen(updates=150, every=4):
    """Random unit atoms on gaussian inputs under the rule alone: biases and frequencies after each of its
    updates, `[updates, F]`. Latents start at bias 0, the first at -1; groups of 16 at 0.1, 0.03, 0.01."""
    W = unit_rows(jax.random.key(0), (48, 16))
    target = jnp.repeat(jnp.array([0.1, 0.03, 0.01]), 16)
    rule = made(every=every)
    params = {"b_enc_F": jnp.zeros(48).at[0].set(-1.0)}

    def step(carry, key):
        params, state = carry
        x = jax.random.normal(key, (2048, 16)) / 6
        y = x @ W.T + params["b_enc_F"]
        firing = Firing((y > 0).sum(0), y.max(0), jnp.zeros(48, bool), target)
        look = {"firing": firing, "batch": Batch(x, x), "error_B": x[:, 0]}
        updates, state = rule.update(params, state, params, **look)
        return (optax.apply_updates(params, updates), state), (
            params["b_enc_F"],
            (y > 0).mean(0),
            y.max(0),
        )

    keys = jax.random.split(jax.random.key(1), updates * every)
    _, found = jax.jit(lambda: jax.lax.scan(step, (params, rule.init(params)), keys))()
    bias, p, largest = (np.asarray(a).reshape(updates, every, 48) for a in found)
    return bias[:, 0], p.mean(1), largest.max(1), np.asarray(target)


def test_alone_it_brings_random_latents_to_their_targets_and_lets_go_there():
    bias, p, _, target = frozen()
    assert bias.min() >= -1
    assert bias.max() <= 0
    assert (p[0, 1:] > 3 * target[1:]).all(), "all are far above their targets at first"
    assert (p[-20:].mean(0) <= 1.1 * target).all()
    # It never steps down from at or below the target, so one step is all that it can overshoot by.
    fell = np.diff(bias, axis=0) < 0
    assert (p[:-1][fell] > np.broadcast_to(target, p.shape)[:-1][fell]).all()
    assert (p[-20:, 1:].mean(0) > 0.5 * target[1:]).all()


def test_a_dead_latent_revives_in_the_predicted_number_of_updates():
    bias, p, largest, _ = frozen()
    revived = int(np.argmax(p[:, 0] > 0))
    reference = np.maximum(largest[:revived, 1:16], 0).mean(1)
    rise = RATE * reference
    gap = -largest[0, 0]
    least, most = gap / rise.max(), 1 / rise.min()
    assert 5 < 0.7 * least <= revived <= most
    np.testing.assert_allclose(bias[revived, 0], -1 + rise.sum(), atol=1e-3)
    stays = made(every=4, rate_up=0.0)
    params = {"b_enc_F": jnp.full(3, -1.0)}
    look = seen([0, 9, 9], [-0.5, 1, 1], [0.5] * 3)
    updates, _ = stays.update(
        params, stays.init(params)._replace(step=jnp.int32(3)), params, **look
    )
    np.testing.assert_array_equal(updates["b_enc_F"], 0)


@pytest.mark.parametrize("leaf", ["log_threshold_F", "threshold_F"])
def test_a_threshold_is_a_bias_of_the_other_sign(leaf):
    theta = np.array([0.2, 0.4, 0.999])
    stored = np.log(theta) if leaf[:3] == "log" else theta
    params = {leaf: jnp.asarray(stored, jnp.float32), "b_enc_F": jnp.ones(3)}
    rule = made(every=1, l0=0.5)
    look = seen([90, 0, 80], [1.2, 0.3, 2.0])
    updates, _ = rule.update(jax.tree.map(jnp.ones_like, params), rule.init(params), params, **look)
    np.testing.assert_array_equal(updates["b_enc_F"], 1)
    found = optax.apply_updates(params, updates)[leaf]
    r = np.array([1.0, 0, 1.001])
    wanted = theta + RATE * r - RATE * np.array([0, r[[0, 2]].mean(), 0])
    wanted = np.minimum(wanted, 1)
    np.testing.assert_allclose(np.exp(found) if leaf[:3] == "log" else found, wanted, rtol=1e-5)


HELD = [
    ("jumprelu", {"sparsity": 0.0, "threshold_start": 0.1, "bandwidth": 0.1}, {}),
    ("relu", {"sparsity": 0.0}, {"lowest": -10.0, "rate_down": 0.05}),
]


@pytest.mark.parametrize(("name", "fields", "more"), HELD)
def test_it_holds_others_at_an_l0_without_a_penalty(name, fields, more):
    """ReLU's encoder grows against its bias, which must fall the faster."""
    config = planted_config(
        name,
        steps=240,
        batch_size=256,
        dictionary=fields,
        rule={"lr": 1e-3 if more else 4e-3, "warmup_steps": 10},
        revive={"name": "adapt_bias", "every": 2, "rate_up": 0.0, **more},
        sweep={"l0": (3.0, 9.0)},
    )
    (program,), _, infos = run(config, 240)
    l0 = np.mean([info[program.key]["l0"] for info in infos[-20:]], axis=0)
    np.testing.assert_allclose(l0, (3, 9), rtol=0.15)


def test_a_sweep_of_targets_is_one_program_and_each_of_it_a_sharded_run_of_its_own():
    changes = {
        "rule": {"lr": 1e-3, "warmup_steps": 100},
        "revive": {"name": "adapt_bias", "every": 1},
        "dictionary": {"groups": 4},
    }
    config = planted_config("gba", **changes, sweep={"density_high": (0.2, 0.05)})
    (program,), states, _ = run(config, 4)
    changes["dictionary"]["density_high"] = 0.05
    (alone,), split, _ = run(planted_config("gba", **changes), 4, mesh_of(1, 2, 4))
    close = lambda a, b: np.testing.assert_allclose(a[0], b[1], rtol=1e-5, atol=1e-5)
    jax.tree.map(close, split[alone.key], states[program.key])
    bias = states[program.key].variables["params"]["b_enc_F"]
    assert np.abs(bias[1] - bias[0]).max() > 0.05


def test_biases_have_no_gradient():
    module = dictionaries.make("gba", d_in=8, n_latents=16, groups=2)
    x = jax.random.normal(jax.random.key(0), (32, 8))
    variables = jax.jit(module.init)(jax.random.key(1), x, jnp.zeros(16, bool))
    loss = lambda v: jnp.sum((module.apply(v, x, jnp.zeros(16, bool)).y_BD - x) ** 2)
    gradient = jax.jit(jax.grad(loss))(variables)["params"]
    assert not np.any(gradient.pop("b_enc_F"))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_it_says_what_it_cannot_hold():
    with pytest.raises(ValueError, match=r"log_threshold_F, threshold_F, b_enc_F"):
        made().init({"W_dec_FD": jnp.ones((2, 2))})
    params = {"b_enc_F": jnp.zeros(1)}
    for l0, target, has in ((0.0, None, "no targets"), (3.0, [0.1], "targets of its own")):
        rule = made(l0=l0)
        with pytest.raises(ValueError, match=has):
            rule.update(params, rule.init(params), params, **seen([1], [1.0], target))
