"""Skips the updates whose loss or gradient is not finite, for each member of a sweep, inside the compiled
step.

The step selects between the old state and the new one, and XLA fuses the selection with the update.
Nothing waits for the host: the state counts the skipped steps, and the loop reads the count when it logs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dictlearn.types import Batch, Learner


class State(NamedTuple):
    """inner: the state of the wrapped learner. batches: the number of batches so far. skipped: how many of
    them were skipped. bad_batch: the last one that was skipped, -1 for none."""

    inner: Any
    batches: jax.Array
    skipped: jax.Array
    bad_batch: jax.Array

    @property
    def variables(self) -> dict:
        return self.inner.variables


def skip_nonfinite(inner: Learner, limit: int) -> Learner:
    """A learner that skips the updates whose `info["finite"]` is false.

    Args:
        inner: the learner to wrap.
        limit: the number of updates that may be skipped.

    Returns:
        A Learner. Its info has, instead of `finite`, the counts `skipped` and `bad_batch`, and `give_up`
        once more than `limit` updates were skipped: the loop then ends the run (train.py).

    Raises:
        ValueError: for a limit below 0.

    Example:
        >>> step = lambda state, batch: (state + 1, {"finite": jnp.isfinite(batch.x_BD).all()})
        >>> count = Learner(lambda key, batch: jnp.int32(0), step, lambda state: {})
        >>> learner, bad = skip_nonfinite(count, 1), Batch(jnp.full((2, 4), jnp.nan), None)
        >>> state, info = learner.update(learner.init(jax.random.key(0), bad), bad)
        >>> int(state.inner), int(info["skipped"]), bool(info["give_up"])
        (0, 1, False)
    """
    if limit < 0:
        raise ValueError(
            f"{limit=}, the number of updates that may be skipped, must be at least 0."
        )

    def init(key: jax.Array, batch: Batch) -> State:
        # Each count has its own array: one that is there twice cannot be donated.
        batches, skipped = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
        return State(inner.init(key, batch), batches, skipped, skipped - 1)

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
