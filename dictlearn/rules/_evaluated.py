"""The parameters that an optimiser's state says are to be evaluated."""

import jax
from optax import contrib


def evaluated(state, params: dict) -> dict:
    """`params`, unless the rule's `state` has a schedule-free optimiser's in it, however deep: then the mean
    of its iterates, which is what it trains, while gradients are taken between the mean and the iterate."""
    free = lambda node: isinstance(node, contrib.ScheduleFreeState)
    found = [node for node in jax.tree.leaves(state, is_leaf=free) if free(node)]
    return contrib.schedule_free_eval_params(found[0], params) if found else params
