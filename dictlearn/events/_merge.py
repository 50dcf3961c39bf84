"""Merges the parts of an event cache into its arrays, some latents at a time, within a bound of memory.

Segments are sorted by latent, so the events of a range of latents are one slice of each. Segments are in the
order of the text. The position of every event in the result therefore follows from counts, and nothing is
sorted.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import files
from dictlearn.events._parts import Stored
from dictlearn.events.cache import largest

_BYTES_OF_AN_EVENT = 24
"""Memory that an event takes while it is merged: its place, its value, and where they go."""


def merge(folder: Path, found: Sequence[Stored], n_latents: int, dtype, memory: int) -> dict:
    """Writes start.npy, place.npy, value.npy and largest.npy.

    Args:
        folder: the folder of the arrays.
        found: the segments, in the order of the text.
        n_latents: the number of latents.
        dtype: the dtype of places.
        memory: the bytes that may be used for events; at least one latent is merged at once.

    Returns:
        {name of a file: its entry in the manifest}.
    """
    count_F = np.zeros(n_latents, np.int64)
    for segment in found:
        count_F += segment.count_F[:]
    start_F = np.concatenate([[0], np.cumsum(count_F)]).astype("<i8")
    largest_F, at = np.zeros(n_latents, "<f4"), [0] * len(found)
    n_events = (int(start_F[-1]),)
    with (
        column(folder / "place.npy", dtype, n_events) as place,
        column(folder / "value.npy", "<f4", n_events) as value,
    ):
        for low, high in _ranges(start_F, memory // _BYTES_OF_AN_EVENT):
            place_E, val_E = _gathered(found, at, start_F, low, high, dtype)
            place.write(place_E)
            value.write(val_E)
            largest_F[low:high] = largest(val_E, start_F[low : high + 1] - start_F[low])
    return {
        "start.npy": save(folder / "start.npy", start_F),
        "place.npy": place.entry,
        "value.npy": value.entry,
        "largest.npy": save(folder / "largest.npy", largest_F),
    }


def save(path: Path, array: np.ndarray) -> dict[str, Any]:
    """Writes an array as a whole; returns its entry in the manifest."""
    with column(path, array.dtype, array.shape) as one:
        one.write(np.ascontiguousarray(array))
    return one.entry


class Column:
    """A file of an array that is written piece by piece. entry: its bytes and its sha256."""

    def __init__(self, file):
        self._file, self._digest, self._bytes = file, hashlib.sha256(), 0

    def write(self, data: np.ndarray | bytes) -> int:
        raw = data if isinstance(data, bytes) else data.data
        size = len(raw) if isinstance(raw, bytes) else raw.nbytes
        if size:
            self._digest.update(raw)
            self._file.write(raw)
        self._bytes += size
        return size

    @property
    def entry(self) -> dict[str, Any]:
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}


@contextlib.contextmanager
def column(path: Path, dtype, shape: tuple[int, ...]) -> Iterator[Column]:
    """A file of NumPy's format for an array of this shape, which replaces `path` when the block ends."""
    about = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with files.whole(path) as half, half.open("wb") as file:
        one = Column(file)
        np.lib.format.write_array_header_1_0(one, about)
        yield one


def _ranges(start_F: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of latents with at most `most` events, or with one latent."""
    low, n_latents = 0, len(start_F) - 1
    while low < n_latents:
        high = int(np.searchsorted(start_F, start_F[low] + most, side="right")) - 1
        high = min(max(high, low + 1), n_latents)
        yield low, high
        low = high


def _gathered(found: Sequence[Stored], at: list[int], start_F, low: int, high: int, dtype):
    """(place_E, val_E) of latents low to high. at: where each segment is read; moved on."""
    n = int(start_F[high] - start_F[low])
    place_E, val_E = np.empty(n, dtype), np.empty(n, "<f4")
    next_F = start_F[low:high] - start_F[low]
    for i, segment in enumerate(found):
        count_F = segment.count_F[low:high].astype(np.int64)
        size = int(count_F.sum())
        own = slice(at[i], at[i] + size)
        to_E = np.repeat(next_F - (np.cumsum(count_F) - count_F), count_F) + np.arange(size)
        place_E[to_E], val_E[to_E] = segment.place_E[own], segment.val_E[own]
        next_F, at[i] = next_F + count_F, own.stop
    return place_E, val_E
