"""Skips the steps whose loss or gradient is not finite: the state stays as it was, and the step is counted.

The choice is made inside the compiled step, for each member of a sweep by itself. It is a select of the old
state or the new one, which XLA fuses with the update. Nobody waits for the host: the state counts, and whoever
logs looks at the count.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dictlearn.types import Batch, Learner


class State(NamedTuple):
    """inner: the state of the learner wrapped. batches: seen so far. skipped: of them. bad_batch: the last one
    that was skipped, -1 for none."""

    inner: Any
    batches: jax.Array
    skipped: jax.Array
    bad_batch: jax.Array

    @property
    def variables(self) -> dict:
        return self.inner.variables


def skip_nonfinite(inner: Learner, limit: int) -> Learner:
    """`inner`, without the steps whose `info["finite"]` is false. Info has instead the counts, and `give_up`
    once more than `limit` steps were skipped: the run then ends (train.py).

    Raises ValueError for a limit below 0."""
    if limit < 0:
        raise ValueError(f"{limit=} of the steps that may be skipped must be at least 0.")

    def init(key: jax.Array, batch: Batch) -> State:
        zero = jnp.zeros((), jnp.int32)
        return State(inner.init(key, batch), zero, zero, zero - 1)

    def update(state: State, batch: Batch) -> tuple[State, dict]:
        new, info = inner.update(state.inner, batch)
        finite = info["finite"]
        state = State(
            jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state.inner),
            state.batches + 1,
            state.skipped + ~finite,
            jnp.where(finite, state.bad_batch, state.batches),
        )
        told = {key: value for key, value in info.items() if key != "finite"}
        told |= {"skipped": state.skipped, "bad_batch": state.bad_batch}
        return state, told | {"give_up": state.skipped > limit}

    return Learner(init, update, lambda state: inner.variables(state.inner))
