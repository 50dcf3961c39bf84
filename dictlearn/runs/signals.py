"""Requests to stop a run: SIGTERM and Ctrl-C."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class Asked:
    """Whether to stop after a step: a context manager that handles SIGTERM and Ctrl-C in the main thread.

    Until `in_order` is set, Ctrl-C raises KeyboardInterrupt as usual. If that is swallowed (by a finaliser, for
    example), the run stops after its first step. Several processes stop after the same step, whichever received
    the signal, because JAX's own handler of SIGTERM informs all of them.

    Attributes:
        in_order: whether the run is in a state in which it can stop after a step.
    """

    def __init__(self):
        self.in_order = False
        self._heard: list[int] = []
        self._before: dict[int, Any] = {}
        self._several = jax.process_count() > 1

    @property
    def interrupted(self) -> bool:
        """Whether the signal was Ctrl-C."""
        return signal.SIGINT in self._heard

    def __call__(self, step: int) -> bool:
        """Whether to stop after this step; every process asks after every step."""
        if self._several:
            return multihost_utils.reached_preemption_sync_point(step)
        return bool(self._heard)

    def __enter__(self) -> "Asked":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        again = number in self._heard
        self._heard.append(number)
        if number == signal.SIGINT and (again or not self.in_order):
            raise KeyboardInterrupt
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
