"""States go from mesh to mesh exactly. No program is compiled: their values are drawn, not trained."""

import inspect

import jax
import numpy as np
import pytest

from dictlearn import dictionaries, experiment, rules
from dictlearn.plan.topology import placed
from dictlearn.runs.checkpoint import Checkpoints
from tests.helpers import mesh_of, planted_config

MESHES = {"8": (1, 1, 8), "4": (2, 2, 1), "1": (1, 1, 1), "2 x 4": (1, 2, 4)}
"""Ways in which dictionaries, tokens and latents are split: the run goes on from each on the next."""
PLACES = {"optimiser": "rule", "wrapper": "revive"}


def rate(name):
    """A learning rate, where the rule has one."""
    return {"lr": 1e-3} if "lr" in inspect.signature(rules.factory(name)).parameters else {}


def configs():
    """(label, config, what is kept of its state): every variant, and every rule and what it wraps, in sweeps of
    two. Rules keep their own state alone: the rest is that of `relu`."""
    sweep = {"seed": (0, 1)}
    for name in dictionaries.names():
        yield name, planted_config(name, sweep=sweep), lambda state: state
    yield "adam", planted_config(sweep=sweep, learner={"ema_decay": 0.9}), lambda state: state
    for kind, place in PLACES.items():
        for name in {*rules.names(kind)} - {"adam"}:
            config = {**planted_config("relu", sweep=sweep), place: {"name": name} | rate(name)}
            yield name, config, lambda state: state.inner.rule


def shapes():
    """{label: the shapes of its program's state, not placed yet}; the sweep's two dictionaries in one. States
    with the same tree and leaves have one entry."""
    found, labels = {}, {}
    for label, config, kept in configs():
        (program,) = experiment.programs(config, 32, None)
        state = kept(experiment.abstract_states([program], 32, None)[program.key])
        leaves, tree = jax.tree.flatten(state)
        if labels.setdefault((tree, *leaves), label) == label:
            found[label] = state
    return found


def drawn(tree):
    """Values of every type, with those that a careless copy would change."""
    generator = np.random.default_rng(0)

    def one(leaf):
        if leaf.dtype == bool:
            return generator.random(leaf.shape) < 0.5
        if np.issubdtype(leaf.dtype, np.integer):
            return generator.integers(0, 2**31 - 1, leaf.shape).astype(leaf.dtype)
        values = generator.standard_normal(leaf.shape).astype(leaf.dtype)
        odd = np.array([-0.0, np.inf, -np.inf, np.nan, 1e-40], leaf.dtype)
        return np.where(
            generator.random(leaf.shape) < 0.1, generator.choice(odd, leaf.shape), values
        )

    return jax.tree.map(one, tree)


def bits(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf).tobytes(), tree)


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """The states drawn, and {mesh: (the target, states restored there from the mesh before)}."""
    path, known = tmp_path_factory.mktemp("meshes"), shapes()
    targets = {label: placed(known, mesh_of(*ways), lead="N") for label, ways in MESHES.items()}
    first, *rest = targets
    values = drawn(targets[first])
    put = lambda value, target: jax.device_put(value, target.sharding)
    state, found = jax.tree.map(put, values, targets[first]), {}
    for step, label in enumerate(rest):
        with Checkpoints(path / label) as checkpoints:
            checkpoints.save(step, state, {})
        with Checkpoints(path / label) as checkpoints:
            _, state, _ = checkpoints.restore(lambda meta, label=label: targets[label])
        found[label] = targets[label], state
    return values, found


def test_every_dictionary_and_rule_state_goes_from_8_devices_to_4_to_1_to_2_by_4_to_the_bit(
    restored,
):
    values, found = restored
    wanted = bits(values)
    for mesh, (_, states) in found.items():
        got = bits(states)
        wrong = [label for label in wanted if got[label] != wanted[label]]
        assert not wrong, f"changed on the way to {mesh}: {wrong}"


def test_each_device_holds_the_part_that_the_names_promise(restored):
    for target, states in restored[1].values():
        same = jax.tree.map(lambda leaf, to: leaf.sharding == to.sharding, states, target)
        assert all(jax.tree.leaves(same))
        atoms = states["batch_topk"].variables["params"]["W_dec_FD"]
        parts = {shard.data.shape for shard in atoms.addressable_shards}
        assert parts == {atoms.sharding.shard_shape(atoms.shape)}


def test_a_state_of_every_kind_was_there():
    names = [label for label, *_ in configs()]
    trained = [name for kind in PLACES for name in rules.names(kind)]
    assert sorted(names) == sorted((*dictionaries.names(), *trained))
