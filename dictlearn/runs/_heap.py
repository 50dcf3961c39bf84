"""The memory that a long run has freed goes back to the system.

glibc keeps what is freed between blocks in use, in a heap for each of many threads. Batches and activations of
a language model come from several threads, so that over hours the process holds ever more that nothing uses.
"""

import ctypes
from collections.abc import Callable
from functools import cache


def trim() -> None:
    """Gives the free pages of all heaps back. Does nothing where the C library is not glibc."""
    _trimmer()(0)


@cache
def _trimmer() -> Callable[[int], object]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return lambda _: None
