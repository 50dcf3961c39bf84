"""A wall clock that was set back, told while a save waits for it.

TensorStore's pool starts a thread only when the wall clock is past the last start of one. After the clock was
set back, a save that needs a new thread therefore waits until the clock is where it was. There is no option
against it, and a new process does not wait.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

PATIENCE_SECONDS = 10.0
_LEAST_SECONDS = 1.0


class Clock:
    """The wall clock against the monotonic one, which nobody sets."""

    def __init__(self):
        self._ahead = self._now()

    def set_back(self) -> float:
        """By how many seconds the clock was set back since this object was made."""
        now = self._now()
        self._ahead = max(self._ahead, now)
        return self._ahead - now

    @contextlib.contextmanager
    def told(self, work: str) -> Iterator[None]:
        """Warns if the block takes longer than PATIENCE_SECONDS and the clock was set back.

        Args:
            work: a description of the work, for the warning.
        """
        self.set_back()
        late = threading.Timer(PATIENCE_SECONDS, self._say, (work,))
        late.daemon = True
        late.start()
        try:
            yield
        finally:
            late.cancel()

    def _say(self, work: str) -> None:
        if (seconds := self.set_back()) > _LEAST_SECONDS:
            logging.getLogger("dictlearn").warning(
                "%s waits because the clock was set back by %.0f s: TensorStore, which writes checkpoints, "
                "starts no thread before the time that it had, and goes on then. To go on at once, end this "
                "process and give the same command again; what is saved is kept.",
                work,
                seconds,
            )

    @staticmethod
    def _now() -> float:
        return time.time() - time.monotonic()


CLOCK = Clock()
"""The clock of this process."""
