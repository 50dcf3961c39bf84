"""A barrier: wait for all processes of a run; raise in all of them if one failed."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils


@contextlib.contextmanager
def barrier(work: str) -> Iterator[None]:
    """Waits at the end of the block for all processes of `jax.distributed`.

    Raises the error of this process in the block, or RuntimeError, naming the `work`, where only others
    failed. If a process was killed, the heartbeat ends the others.
    """
    error = None
    try:
        yield
    except Exception as raised:
        error = raised
    failed = np.array([error is not None])
    if jax.process_count() > 1:
        failed = np.asarray(multihost_utils.process_allgather(failed)).ravel()
    if error is not None:
        raise error
    if failed.any():
        others = ", ".join(map(str, np.flatnonzero(failed)))
        raise RuntimeError(f"{work} failed in process {others}, which says why.")
