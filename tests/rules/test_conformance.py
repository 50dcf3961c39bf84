"""Conformance of every rule. A new file in the folder is tested without changes here."""

import functools
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.optimisers import RATES, trained
from dictlearn import dictionaries, experiment, objectives, rules, sharding
from dictlearn.learners.gradient import gradient
from dictlearn.types import Batch, Firing
from tests.helpers import mesh_of, planted_config, run

KINDS = {name: kind for kind in rules.KINDS for name in rules.names(kind)}
PLACES = {"optimiser": "rule", "wrapper": "revive"}
"""The subtrees of a config in which each kind trains."""
CASES = {name: (name, {}) for name in KINDS}
CASES |= {"per_latent_of_adam": ("adam", {"per_latent": True})}
CASES |= {f"{each}_of_adam": ("adam", {"schedule": each}) for each in rules.schedules()}
CASES["cosine_of_lion"] = "lion", {"schedule": "cosine"}
every = pytest.mark.parametrize("case", CASES)
PROJECTIONS = {case for case in CASES if KINDS[CASES[case][0]] == "projection"}
SWEPT = [
    case
    for case, (name, _) in CASES.items()
    if "decay_fraction" in inspect.signature(rules.factory(name)).parameters
    and not case.endswith("_of_lion")
]
"""What stands between the projections under a schedule: Adam, and the optimisers of optax."""
RECOVERING = [
    *("adam", "per_latent_of_adam", "cosine_of_adam", "wsd_of_adam", "adagrad", "cocob"),
    *("lion", "muon", "prodigy", "schedule_free_adamw", "sgd"),
]
"""One of each sort: moments, signs, matrices, rates that it finds, means that it evaluates. That all of SWEPT
recover is the table of docs/optimisers.md."""
GIVEN = {"l0": 3.0, "lr": 1e-3, "steps": 10, "warmup_steps": 1}
"""Values for arguments that a rule may have, by name; a rule takes those it knows."""
B, D, F = 16, 8, 32


def given(case):
    """(the rule's name, its arguments)."""
    name, more = CASES[case]
    known = inspect.signature(rules.factory(name)).parameters
    return name, {key: value for key, value in GIVEN.items() if key in known} | more


def made(case, **more):
    """The rule; a wrapper around plain Adam."""
    name, arguments = given(case)
    if KINDS[name] == "wrapper":
        more["inner"] = optax.with_extra_args_support(optax.adam(1e-3))
    return rules.make(name, **arguments, **more)


@functools.cache
def problem(dtype):
    """(params, gradients, what else a rule may read): the same numbers in either type."""
    draw = lambda n, *shape: np.random.default_rng(n).normal(size=shape).astype(np.float32)
    rows_FD = draw(0, F, D)
    rows_FD /= np.linalg.norm(rows_FD, axis=1, keepdims=True)
    params = {"W_dec_FD": rows_FD, "W_enc_FD": 2 * rows_FD, "b_enc_F": np.zeros(F, np.float32)}
    params["b_dec_D"] = np.zeros(D, np.float32)
    grads = {name: np.float32(0.1) * draw(1, *leaf.shape) for name, leaf in params.items()}
    x_BD = draw(2, B, D)
    ones_F, index_F = np.ones(F, np.float32), np.arange(F, dtype=np.int32)
    firing = Firing(index_F % 3, ones_F, index_F % 5 == 0)
    extra = {"firing": firing, "batch": Batch(x_BD, x_BD), "error_B": ones_F[:B]}
    cast = lambda leaf: leaf.astype(dtype) if leaf.dtype == np.float32 else leaf
    return jax.tree.map(cast, (params, grads, extra))


def step(rule, state, params, grads, extra):
    updates, state = rule.update(grads, state, params, **extra)
    return optax.apply_updates(params, updates), state


def told(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def taken(rule, dtype, mesh=None):
    """(params, state) after one step, over the devices of a mesh or on one. Checks first, in either type, the
    tree, the types, one compilation, and steps that resume to the bit."""
    params, grads, extra = problem(dtype)
    params = jax.tree.map(jnp.array, params)
    first = rule.init(params), params
    kept = None
    if mesh:
        first, grads = (jax.device_put(a, sharding.shardings(a, mesh)) for a in (first, grads))
        kept = tuple(sharding.shardings(tree, mesh) for tree in first[::-1])
    begun = jax.tree.map(np.array, first)
    # Donated as it is: a buffer that two leaves share could not be.
    moves = jax.jit(lambda *given: step(rule, *given), donate_argnums=(0, 1), out_shardings=kept)
    new, state = moves(*first, grads, extra)
    saved = jax.tree.map(np.array, (state, new))
    if mesh:
        same = lambda leaf, to: leaf.sharding.is_equivalent_to(to, leaf.ndim)
        assert all(jax.tree.leaves(jax.tree.map(same, (new, state), kept)))
    for _ in range(2):
        new, state = moves(state, new, grads, extra)
    assert told((state, new)) == told(begun)
    again = jax.tree.map(jnp.array, saved)
    if mesh:
        again = jax.device_put(again, sharding.shardings(again, mesh))
    again, resumed = moves(*again, grads, extra)
    again, resumed = moves(resumed, again, grads, extra)
    jax.tree.map(np.testing.assert_array_equal, (again, resumed), (new, state))
    assert moves._cache_size() == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), new, begun[1])
    assert any(jax.tree.leaves(moved))
    return saved[::-1]


@every
def test_it_keeps_tree_types_and_placement_compiles_once_and_resumes_to_the_bit(case):
    """In single precision over eight devices, in double on one: the same step but for rounding."""
    mesh = mesh_of(1, 2, 4)
    with jax.set_mesh(mesh):
        split = taken(made(case), "float32", mesh)
    with jax.enable_x64(True):
        whole = taken(made(case), "float64")
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, split, whole)


@pytest.fixture(scope="session")
def adams():
    """The share of planted atoms that Adam recovers."""
    found = trained({"name": "adam", "decay_fraction": 0.5}, [RATES["adam"]])[0].item()
    assert found >= 0.97
    return found


@pytest.mark.parametrize("case", RECOVERING)
def test_two_of_its_rates_are_one_program_and_recover_what_adam_does(case, adams):
    """Nine tenths of that: the program has the optimiser's own best rate (docs/optimisers.md), and one that is
    far too small. COCOB finds its rate from any."""
    name, more = CASES[case]
    rate = RATES[name]
    falls = more or {"decay_fraction": 0.5}
    small, best = trained({"name": name, **falls}, [rate / 100, rate])[0]
    assert best >= 0.9 * adams
    assert small < 0.1 or name == "cocob"


@pytest.mark.parametrize("case", SWEPT)
def test_a_sweep_over_its_rate_is_one_program(case):
    name, more = CASES[case]
    config = planted_config() | {"rule": {"name": name, **more}, "sweep": {"rule.lr": (1e-3, 1e-2)}}
    (program,) = experiment.programs(config, 32, None)
    assert [member.hparams["rule"]["lr"] for member in program.members] == [1e-3, 1e-2]


@pytest.mark.parametrize("case", sorted(CASES.keys() - SWEPT - PROJECTIONS))
def test_a_sweep_trains_with_it(case):
    name, arguments = given(case)
    place, lr = PLACES[KINDS[name]], arguments.pop("lr", None)
    config = planted_config("relu", sweep={"rule.lr": (1e-3, 1e-2)} if lr else {"seed": (0, 1)})
    config[place] = {"name": name, **arguments}
    config[place].pop("steps", None)
    (program,), states, infos = run(config, 3)  # asserts one compilation
    assert np.isfinite(infos[-1][program.key]["loss"]).all()
    found = program.members[1].hparams[place]
    assert found == config[place] | ({"lr": 1e-2} if lr else {})
    one, other = states[program.key].variables["params"]["W_dec_FD"]
    assert (one != other).any()


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


@pytest.mark.parametrize("name", KINDS)
def test_an_argument_it_has_not_is_refused_by_name(name):
    with pytest.raises(ValueError, match="'nonsense'"):
        rules.make(name, nonsense=1)
