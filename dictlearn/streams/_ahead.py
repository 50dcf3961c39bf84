"""Work done ahead in one background thread, in order, and cancelled when it is no longer needed."""

import atexit
import queue
import threading
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any


class Ahead:
    """A thread for work that is a generator: it checks for cancellation at each yield, and the return value
    of the generator is the result. The thread ends with this object, or with the interpreter, at the next
    yield; results that are not ready by then are never set."""

    def __init__(self):
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        closed = threading.Event()
        thread = threading.Thread(target=_work, args=(self._jobs, closed), daemon=True)
        thread.start()
        at_exit = _ender(self._jobs, closed, thread)
        atexit.register(at_exit)
        weakref.finalize(self, _end, self._jobs, closed, at_exit).atexit = False

    def submit(self, work: Callable[..., Generator[Any, None, Any]], *arguments: Any) -> Future:
        """The future result of `work(*arguments)`."""
        future: Future = Future()
        self._jobs.put((future, work, arguments))
        return future


def _work(jobs: queue.SimpleQueue, closed: threading.Event) -> None:
    while (job := jobs.get()) is not None:
        future, work, arguments = job
        try:
            future.set_result(_through(work(*arguments), closed))
        except BaseException as error:
            future.set_exception(error)
        del job, future, work, arguments


def _through(steps: Generator[Any, None, Any], closed: threading.Event) -> Any:
    while not closed.is_set():
        try:
            next(steps)
        except StopIteration as end:
            return end.value
    raise RuntimeError("The stream was closed while this was computed.")


def _ender(jobs, closed, thread) -> Callable[[], None]:
    def end():
        closed.set()
        jobs.put(None)
        thread.join()

    return end


def _end(jobs, closed, at_exit) -> None:
    atexit.unregister(at_exit)
    closed.set()
    jobs.put(None)
