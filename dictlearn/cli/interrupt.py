"""Ctrl-C: the first one ends the work in order, training with a checkpoint; the second ends the process at
once.

Python's own handlers wait for the current function of the main thread, which may compile for minutes. So a
thread handles the second Ctrl-C.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

STATUS = 128 + signal.SIGINT
"""The exit status after Ctrl-C."""


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """While the block runs in the main thread, the first Ctrl-C ends the process with STATUS.

    There is nothing to lose then, and an imported module may swallow a KeyboardInterrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: _end(b"dictlearn: interrupted.\n"))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def twice() -> Iterator[None]:
    """While the block runs in the main thread, the second Ctrl-C ends the process with STATUS."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    before = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reads,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writes)


def _watch(reads: int) -> None:
    """Counts the signals whose numbers Python writes to the pipe, until its other end is closed."""
    times = 0
    with os.fdopen(reads, "rb", buffering=0) as pipe:
        while found := pipe.read(64):
            times += found.count(signal.SIGINT)
            if times > 1:
                _end(b"dictlearn: interrupted twice; ended at once.\n")


def _end(message: bytes) -> NoReturn:
    os.write(2, message)
    os._exit(STATUS)
