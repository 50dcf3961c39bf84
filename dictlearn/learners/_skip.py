"""A step that would do harm is not taken: where loss or gradient is not finite, the state stays as it is.

The test is inside the compiled step, and per member of a sweep. One program at a time, the step is a branch;
side by side under `vmap` it becomes a select, which XLA fuses with the update. Nobody waits for the host: the
state counts, and whoever logs looks at the count.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def check(max_skipped: int) -> None:
    """Raises ValueError for a limit that is none."""
    if max_skipped < 0:
        raise ValueError(f"{max_skipped=} must be at least 0, the steps that may be skipped.")


def start() -> dict[str, jax.Array]:
    """The counters of a new state: steps skipped, and the last batch that was, -1 for none."""
    return {"skipped": jnp.zeros((), jnp.int32), "bad_batch": jnp.full((), -1, jnp.int32)}


def unless_finite(found, take: Callable, state):
    """`take()`, or `state` with one more batch counted if anything in the tree `found` is not finite.

    The stream's batch is `step`, the updates done, and `skipped` together."""
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found)]).all()
    batch = state.step + state.skipped
    skip = lambda: state._replace(skipped=state.skipped + 1, bad_batch=batch)
    return lax.cond(finite, take, skip)


def reading(state, max_skipped: int) -> dict[str, jax.Array]:
    """What `info` says of it; `give_up` ends the run."""
    return {
        "skipped": state.skipped,
        "bad_batch": state.bad_batch,
        "give_up": state.skipped > max_skipped,
    }
