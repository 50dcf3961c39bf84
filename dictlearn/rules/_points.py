"""Optimisers whose state holds parameters beside moments: an iterate, or the point it began at."""

import jax
import jax.numpy as jnp
from optax import contrib

from dictlearn.rules import normalise_atoms

_FIELDS = {"z", "x0", "params0", "init_params", "init_particles"}
"""What optax calls them."""


def is_point(path) -> bool:
    """Whether a leaf of a rule's state, at this path, is of a point."""
    return any(getattr(key, "name", None) in _FIELDS for key in path)


def begun_at(state, params: dict):
    """`state` of an optimiser that starts, or starts again, at `params`: all of the parameters or some."""

    def one(path, leaf):
        name = getattr(path[-1], "key", None) if path else None
        return jnp.copy(params[name]) if is_point(path) and name in params else leaf

    return jax.tree_util.tree_map_with_path(one, state)


def evaluated(state, params: dict) -> dict:
    """`params`, unless the rule's `state` has a schedule-free optimiser's in it, however deep: then the mean
    of its iterates, which is what it trains; gradients are taken between the mean and the iterate. Rows that
    training holds at unit norm are held there."""
    found = _within(state, contrib.ScheduleFreeState)
    if not found:
        return params
    held = {leaf for one in _within(state, normalise_atoms.State) for leaf in one.held}
    mean = dict(contrib.schedule_free_eval_params(found[0], params))
    return {
        leaf: normalise_atoms.unit(rows) if leaf in held else rows for leaf, rows in mean.items()
    }


def _within(state, kind: type) -> list:
    """The nodes of this type in a state."""
    of_kind = lambda node: isinstance(node, kind)
    return [node for node in jax.tree.leaves(state, is_leaf=of_kind) if of_kind(node)]
