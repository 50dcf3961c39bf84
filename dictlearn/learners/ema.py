"""The exponential mean of a dictionary's parameters over the steps of training.

    m <- decay m + (1 - decay) params        read as m / (1 - decay^t), corrected for its start at zero

Source: Gao et al. 2024, appendix A.5, whose decay is 0.999. Training itself does not read the mean.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from dictlearn.types import Batch, Learner


class State(NamedTuple):
    """inner: the state of the learner wrapped. mean: of its parameters, before the correction. step: updates
    done."""

    inner: Any
    mean: dict
    step: jax.Array

    @property
    def variables(self) -> dict:
        return self.inner.variables


def ema(inner: Learner, decay: float) -> Learner:
    """`inner`, whose `variables` are the mean of its parameters and its own statistics.

    Raises ValueError for a decay outside (0, 1)."""
    if not 0 < decay < 1:
        raise ValueError(f"{decay=} must lie between 0 and 1; leave ema_decay None for no mean.")

    def init(key: jax.Array, batch: Batch) -> State:
        state = inner.init(key, batch)
        mean = jax.tree.map(jnp.zeros_like, inner.variables(state)["params"])
        return State(state, mean, jnp.zeros((), jnp.int32))

    def update(state: State, batch: Batch) -> tuple[State, dict]:
        new, info = inner.update(state.inner, batch)
        params = inner.variables(new)["params"]
        mean = optax.incremental_update(params, state.mean, 1 - decay)
        return State(new, cast(dict, mean), state.step + 1), info

    def variables(state: State) -> dict:
        own = inner.variables(state.inner)
        weight = 1 - decay ** state.step.astype(jnp.float32)
        read = lambda mean, new: jnp.where(weight > 0, mean / weight, new)
        return {**own, "params": jax.tree.map(read, state.mean, own["params"])}

    return Learner(init, update, variables)
