"""What every rule proves, whatever it moves. A new file in the folder is tested as it stands."""

import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dictlearn import dictionaries, experiment, objectives, rules, sharding
from dictlearn.learners.gradient import gradient
from dictlearn.types import Batch, Firing
from tests.helpers import mesh_of, planted_config, run

KINDS = {name: kind for kind in rules.KINDS for name in rules.names(kind)}
PLACES = {"optimiser": "rule", "wrapper": "revive"}
"""The subtrees of a config in which each kind trains."""
every = pytest.mark.parametrize("name", KINDS)
trained = pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name] in PLACES])
GIVEN = {"adam": {"lr": 1e-3, "steps": 10}, "adapt_bias": {"l0": 3.0}}
B, D, F = 16, 8, 32


def made(name):
    """The rule; a wrapper around plain Adam."""
    inner = {"inner": optax.adam(1e-3)} if KINDS[name] == "wrapper" else {}
    inner = {key: optax.with_extra_args_support(rule) for key, rule in inner.items()}
    return rules.make(name, **GIVEN.get(name, {}), **inner)


def problem(dtype=jnp.float32):
    """(params, gradients, what else a rule may read)."""
    rows_FD = jax.random.normal(jax.random.key(0), (F, D), dtype)
    rows_FD /= jnp.linalg.norm(rows_FD, axis=1, keepdims=True)
    params = {"W_dec_FD": rows_FD, "W_enc_FD": rows_FD, "b_enc_F": jnp.zeros(F, dtype)}
    params["b_dec_D"] = jnp.zeros(D, dtype)
    grads = jax.tree.map(
        lambda leaf: 0.1 * jax.random.normal(jax.random.key(1), leaf.shape, dtype), params
    )
    x_BD = jax.random.normal(jax.random.key(2), (B, D), dtype)
    firing = Firing(jnp.arange(F) % 3, jnp.ones(F, dtype), jnp.arange(F) % 5 == 0)
    return (
        params,
        grads,
        {"firing": firing, "batch": Batch(x_BD, x_BD), "error_B": jnp.ones(B, dtype)},
    )


def step(rule, state, params, grads, extra):
    updates, state = rule.update(grads, state, params, **extra)
    return optax.apply_updates(params, updates), state


def told(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@every
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_keeps_the_tree_and_the_types_and_compiles_once(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        rule, (params, grads, extra) = made(name), problem(jnp.dtype(dtype))
        state = rule.init(params)
        moves = jax.jit(lambda *arguments: step(rule, *arguments))
        new, after = params, state
        for _ in range(3):
            new, after = moves(after, new, grads, extra)
        assert told(new) == told(params)
        assert told(after) == told(state)
        assert moves._cache_size() == 1
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new))
        moved = [
            bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, (new, params)), strict=True)
        ]
        assert any(moved)


@every
def test_it_keeps_the_placement(name):
    mesh = mesh_of(1, 2, 4)
    with jax.set_mesh(mesh):
        rule, (params, grads, extra) = made(name), problem()
        state = rule.init(params)
        put = lambda tree: jax.device_put(tree, sharding.shardings(tree, mesh))
        whole = jax.jit(lambda *arguments: step(rule, *arguments))(state, params, grads, extra)
        kept = tuple(sharding.shardings(tree, mesh) for tree in (params, state))
        moves = jax.jit(lambda *arguments: step(rule, *arguments), out_shardings=kept)
        split = moves(put(state), put(params), put(grads), extra)
        same = lambda leaf, to: leaf.sharding.is_equivalent_to(to, leaf.ndim)
        assert all(jax.tree.leaves(jax.tree.map(same, split, kept)))
        close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5)
        jax.tree.map(close, split, whole)


@trained
def test_a_sweep_trains_with_it(name):
    place = PLACES[KINDS[name]]
    config = planted_config("relu", sweep={"seed": (0, 1)})
    given = {key: value for key, value in GIVEN.get(name, {}).items() if key != "steps"}
    config[place] = {"name": name, **given}
    (program,), _, infos = run(config, 3)  # asserts one compilation
    assert np.isfinite(infos[-1][program.key]["loss"]).all()
    assert program.members[0].hparams[place] == config[place]


def test_every_file_is_of_a_kind():
    files = {module.name for module in pkgutil.iter_modules(rules.__path__)}
    assert {name for name in files if name[0] != "_"} <= KINDS.keys()


@pytest.mark.parametrize("name", [name for name in KINDS if KINDS[name] != "optimiser"])
def test_only_an_optimiser_is_one(name):
    config = planted_config() | {"rule": {"name": name}}
    with pytest.raises(ValueError, match=rf"'{name}'.* {', '.join(rules.names())}"):
        experiment.check(config)


def test_a_rule_of_optax_trains_a_dictionary_too():
    x_BD = jax.random.normal(jax.random.key(0), (64, 8))
    module = dictionaries.make("topk", d_in=8, n_latents=16, k=2)
    learner = gradient(module, objectives.make("fvu"), optax.sgd(0.1))
    state = learner.init(jax.random.key(1), Batch(x_BD, x_BD))
    update, losses = jax.jit(learner.update), []
    for _ in range(20):
        state, info = update(state, Batch(x_BD, x_BD))
        losses.append(float(info["loss"]))
    assert losses[-1] < losses[0]


@every
def test_an_argument_it_has_not_is_refused_by_name(name):
    with pytest.raises(ValueError, match="'nonsense'"):
        rules.make(name, nonsense=1)
