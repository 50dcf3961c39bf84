"""Orbax, as the checkpoints of a run use it.

Orbax gives up on a save after 20 minutes by the clock. They also pass while the process is suspended or the
machine asleep, and a large state on a slow disk takes longer. Then a run would end that only had to wait. Here
a save may take SAVE_SECONDS; a run of several processes that hangs is ended by `--step_timeout`.
"""

import logging
from typing import Any

from etils import epath

SAVE_SECONDS = 7 * 24 * 3600


def orbax():
    """The module, imported at the first save or load, because its import takes half as long as that of JAX."""
    from orbax.checkpoint import v1

    for logger in ("absl", "asyncio"):
        logging.getLogger(logger).addFilter(_is_no_echo)
    return v1


def save(path: epath.Path, state: Any):
    """Starts to save a pytree; the `result` of what it returns waits for the end."""
    v1 = orbax()
    context = v1.Context()
    context.asynchronous.timeout_secs = SAVE_SECONDS
    with context:
        return v1.save_async(path, state)


def _is_no_echo(record: logging.LogRecord) -> bool:
    """Orbax's threads and tasks log the tracebacks of an error that `wait` or `restore` tells."""
    return not (record.exc_info and "orbax" in f"{record.pathname} {record.getMessage()}")
