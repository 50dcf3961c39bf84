"""The parts of an unfinished event cache: the events of a few sequences each, sorted by latent.

    parts/recipe.json    the recipe of the cache
    parts/00012.part     the sha256 of the rest, then segments: the number of events (int64), the number of each
                         latent (int32 [F]), their places and their values, by latent and then by place

A part is a pure function of the recipe and its number. It has several segments only if its events would not
fit into the memory that a writer may use. A part whose sha256 does not match is written again.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dictlearn import files

FOLDER = "parts"
_DIGEST = hashlib.sha256().digest_size
_BYTES_OF_AN_EVENT = 64
"""Memory that an event takes at most while a segment is sorted, in bytes."""


class Found(NamedTuple):
    """Events in the order of their tokens. place_E: sequence * T + position."""

    latent_E: np.ndarray
    place_E: np.ndarray
    val_E: np.ndarray


class Segment(NamedTuple):
    """Events by latent, then by place. count_F: the number of events of each latent."""

    count_F: np.ndarray
    place_E: np.ndarray
    val_E: np.ndarray


def place_dtype(n_places: int) -> np.dtype:
    """The dtype of places below `n_places`."""
    return np.dtype("<u4" if n_places <= 1 << 32 else "<u8")


def by_latent(found: Found, n_latents: int, n_places: int) -> Segment:
    """Sorts events."""
    at = found.latent_E, found.place_E
    rows = sparse.coo_array((found.val_E, at), shape=(n_latents, n_places)).tocsr()
    count_F = np.diff(rows.indptr).astype("<i4")
    place_E = rows.indices.astype(place_dtype(n_places), copy=False)
    return Segment(count_F, place_E, rows.data.astype("<f4", copy=False))


def segments(
    pieces: Iterable[Found], n_latents: int, n_places: int, memory: int
) -> Iterator[Segment]:
    """The events of a part, in segments that can be sorted within `memory` bytes."""
    waiting, n = [], 0
    for piece in pieces:
        waiting.append(piece)
        n += len(piece.val_E)
        if n * _BYTES_OF_AN_EVENT > memory:
            yield by_latent(joined(waiting), n_latents, n_places)
            waiting, n = [], 0
    if waiting:
        yield by_latent(joined(waiting), n_latents, n_places)


def joined(pieces: list[Found]) -> Found:
    """The events of pieces that follow each other."""
    return Found(*map(np.concatenate, zip(*pieces, strict=True)))


def name(part: int) -> str:
    """The file of a part."""
    return f"{part:05d}.part"


def save(path: Path, found: Iterable[Segment]) -> None:
    """Writes a part as a whole."""
    digest = hashlib.sha256()
    with files.whole(path) as half, half.open("wb") as file:
        file.write(bytes(_DIGEST))
        for segment in found:
            for array in (np.array(len(segment.val_E), "<i8"), *segment):
                data = np.ascontiguousarray(array).data
                digest.update(data)
                file.write(data)
        file.seek(0)
        file.write(digest.digest())


def is_intact(path: Path) -> bool:
    """Whether the file of a part exists and matches its checksum."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        was = file.read(_DIGEST)
        return hashlib.file_digest(file, "sha256").digest() == was


@dataclass(frozen=True)
class OnDisk:
    """An array in a file, of which slices are read; a memory-map would count as memory of the process."""

    path: Path
    offset: int
    size: int
    dtype: np.dtype

    def __getitem__(self, own: slice) -> np.ndarray:
        start, stop, _ = own.indices(self.size)
        place = self.offset + start * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, max(stop - start, 0), offset=place)


class Stored(NamedTuple):
    """A segment in the file of a part."""

    count_F: OnDisk
    place_E: OnDisk
    val_E: OnDisk


def load(path: Path, n_latents: int, n_places: int) -> list[Stored]:
    """The segments of a part, whose arrays are read by slices."""
    at, end, found = _DIGEST, path.stat().st_size, []

    def take(n: int, dtype) -> OnDisk:
        nonlocal at
        one = OnDisk(path, at, n, np.dtype(dtype))
        at += n * one.dtype.itemsize
        return one

    while at < end:
        n = int(take(1, "<i8")[:][0])
        columns = take(n_latents, "<i4"), take(n, place_dtype(n_places)), take(n, "<f4")
        found.append(Stored(*columns))
    return found
