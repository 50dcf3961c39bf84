"""Optimisers whose state holds parameters besides moments: an iterate, or the starting point."""

import jax
import jax.numpy as jnp
from optax import contrib

from dictlearn.rules import normalise_atoms

_FIELDS = {"z", "x0", "params0", "init_params", "init_particles"}
"""Optax's names of these fields."""


def is_point(path) -> bool:
    """Whether the leaf at this path of a rule's state holds parameters."""
    return any(getattr(key, "name", None) in _FIELDS for key in path)


def begun_at(state, params: dict):
    """`state` of an optimiser that starts or restarts at `params`, which may hold only some of the
    parameters."""

    def one(path, leaf):
        name = getattr(path[-1], "key", None) if path else None
        return jnp.copy(params[name]) if is_point(path) and name in params else leaf

    return jax.tree_util.tree_map_with_path(one, state)


def evaluated(state, params: dict) -> dict:
    """The parameters to evaluate: `params`, or the mean of the iterates of a schedule-free optimiser.

    Such an optimiser may be at any depth of the rule's `state`. It takes gradients between the mean and the
    iterate, and trains the mean. Rows that training holds at unit norm have unit norm in the mean too."""
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
