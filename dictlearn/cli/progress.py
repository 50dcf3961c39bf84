"""Progress of long work: a bar on a terminal, else a line every few seconds."""

import sys
import time

import jax
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

LINE_SECONDS = 15


class Progress:
    """A context manager that is called with (done, total), and shown by process 0 only.

    `rate` is units per second since the first call, so that compilation, mostly, is not counted.
    """

    def __init__(self, title: str, unit: str):
        self._title, self._unit = title, unit
        self._first: tuple[float, int] | None = None
        self._said = time.monotonic()
        self._bar = None
        self.rate = 0.0

    def __enter__(self) -> "Progress":
        if sys.stdout.isatty() and jax.process_index() == 0:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
            numbers = (MofNCompleteColumn(), TextColumn("{task.fields[speed]}"))
            times = (TimeElapsedColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, *numbers, *times)
            self._task = self._bar.add_task(self._title, total=None, speed="")
            self._bar.start()
        return self

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self._first = self._first or (now, done)
        seconds, units = now - self._first[0], done - self._first[1]
        self.rate = units / seconds if seconds > 0 else 0.0
        speed = f"{self.rate:,.0f} {self._unit}/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, speed=speed)
        elif jax.process_index() == 0 and (done >= total or now - self._said >= LINE_SECONDS):
            self._said = now
            left = (total - done) / self.rate if self.rate else 0.0
            percent = 100 * done / max(total, 1)
            print(f"{self._title}: {percent:3.0f} %, {speed}, {left:.0f} s left", flush=True)

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()
