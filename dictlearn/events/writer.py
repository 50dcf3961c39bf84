"""Writes an event cache: one pass over the rows, then a merge.

Of n processes, which must all see the same folder, process i reads every n-th part of the text; process 0
merges. A part is written as a whole, so a killed writer continues from the parts that are there, also with
another number of processes. The bytes are the same for every n, for every bound of memory, and after a kill.
"""

import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dictlearn import files
from dictlearn.events import _parts
from dictlearn.events._merge import merge, save
from dictlearn.events._parts import Found
from dictlearn.events.cache import FORMAT, MANIFEST, Events, damaged, largest, open_manifest
from dictlearn.events.rows import Rows
from dictlearn.runs.active import active
from dictlearn.runs.owner import owned
from dictlearn.runs.trained import Trained
from dictlearn.streams._barrier import barrier
from dictlearn.streams._fingerprint import differ

MEMORY = 1 << 30
_ENCODED = 1 << 26
"""Pre-activations of one call of the encoder, at most: 256 MiB."""
_BATCH = 4096

log = logging.getLogger("dictlearn")


class Job(NamedTuple):
    """A cache to write. recipe: everything that determines its bytes, as JSON. found: chosen parts -> (part,
    its events) for each piece of these parts, in their order."""

    recipe: Mapping[str, Any]
    n_latents: int
    n_parts: int
    tokens_ST: np.ndarray
    mask_ST: np.ndarray
    found: Callable[[list[int]], Iterable[tuple[int, Found]]]


def job(
    dictionary: Trained, rows: Rows, progress: Callable[[int, int], None] = lambda done, total: None
) -> Job:
    """The cache of a dictionary on rows. progress: called with (tokens read, tokens in all)."""
    n_latents, n_tokens = dictionary.module.n_latents, int(np.count_nonzero(rows.mask_ST))
    length = rows.tokens_ST.shape[1]
    batch = min(_BATCH, max(1, _ENCODED // n_latents))

    def found(chosen: list[int]) -> Iterator[tuple[int, Found]]:
        done = 0
        for part, tensors, order_R in rows.read(chosen):
            for start in range(0, max(len(order_R), 1), batch):
                row_B = order_R[start : start + batch]
                latent_E, sequence_E, position_E, val_E = active(
                    dictionary, tensors, rows.tap, row_B, batch
                )
                place_E = sequence_E.astype(np.int64) * length + position_E
                yield part, Found(latent_E, place_E, val_E)
                done += len(row_B)
                progress(done, n_tokens)

    recipe = {"dictionary": identity(dictionary), "tap": list(rows.tap), "batch": batch}
    recipe |= {"rows": rows.identity, "parts": rows.n_parts, "n_latents": n_latents}
    return Job(recipe, n_latents, rows.n_parts, rows.tokens_ST, rows.mask_ST, found)


def identity(dictionary: Trained) -> str:
    """The sha256 of everything that determines the codes of a dictionary."""
    digest = hashlib.sha256(repr(dictionary.module).encode())
    leaves = jax.tree_util.tree_leaves_with_path((dict(dictionary.variables), dictionary.norm))
    for path, leaf in leaves:
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def gather(work: Job) -> Events:
    """Every active code, in memory: 8 bytes each, and up to 64 while they are sorted.

    Args:
        work: what to read.

    Returns:
        Events, equal to the events of a cache on disk.
    """
    pieces = [Found(*(np.empty(0, kind) for kind in (np.int32, np.int64, np.float32)))]
    pieces += [piece for _, piece in work.found(list(range(work.n_parts)))]
    one = _parts.by_latent(_parts.joined(pieces), work.n_latents, work.tokens_ST.size)
    start_F = np.concatenate([[0], np.cumsum(one.count_F, dtype=np.int64)])
    biggest_F = largest(one.val_E, start_F)
    text = work.tokens_ST, work.mask_ST
    return Events(start_F, one.place_E, one.val_E, biggest_F, *text, recipe=work.recipe)


def write(work: Job, path: str | Path, memory: int = MEMORY) -> None:
    """Writes an event cache. A finished one of the same recipe is left unchanged. All processes call it.

    Args:
        work: what to read.
        path: the folder.
        memory: bytes that may be used for events, beside the model, the dictionary, and the activations and
            codes of one pass.

    Raises:
        ValueError: for a folder with another cache or other files.
        OSError: for a full disk.
        InUse: while another command writes the cache.
    """
    path = Path(path)
    with owned(path, "dictlearn events"):
        with barrier(f"Beginning the event cache at {path}"):
            if jax.process_index() == 0:
                _begin(path, json.loads(json.dumps(work.recipe)))
        if (path / MANIFEST).exists():
            return
        with barrier(f"Reading events into {path}"):
            _spill(work, path / _parts.FOLDER, memory)
        with barrier(f"Merging the event cache at {path}"):
            if jax.process_index() == 0:
                _finish(work, path, memory)


def _begin(path: Path, recipe: dict[str, Any]) -> None:
    """Compares the recipe with that of the folder; leaves the parts of an unfinished cache."""
    parts = path / _parts.FOLDER
    if (path / MANIFEST).exists():
        manifest = open_manifest(path)
        _same(path, manifest["recipe"], recipe)
        lost = [n for n, entry in manifest["files"].items() if damaged(path / n, entry, False)]
        if not lost:
            shutil.rmtree(parts, ignore_errors=True)
            return
        log.warning("%s lacks %s, or a part of it: written again.", path, ", ".join(lost))
        (path / MANIFEST).unlink()
    elif not parts.exists() and any(file.name[0] != "." for file in path.iterdir()):
        raise ValueError(f"{path} holds files that are not an event cache; give a new folder.")
    if (parts / "recipe.json").exists():
        _same(path, json.loads((parts / "recipe.json").read_text("utf-8")), recipe)
        return
    parts.mkdir(exist_ok=True)
    with files.whole(parts / "recipe.json") as half:
        half.write_text(json.dumps(recipe, indent=1) + "\n", "utf-8")


def _same(path: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if changed := "; ".join(differ(was, now)):
        raise ValueError(
            f"{path} holds another event cache: {changed}. Remove it, or give another."
        )


def _spill(work: Job, folder: Path, memory: int) -> None:
    """Writes the parts of this process that are not there."""
    if not folder.is_dir():
        raise ValueError(
            f"Process {jax.process_index()} does not see {folder}; give a folder that all can see."
        )
    mine = range(work.n_parts)[jax.process_index() :: jax.process_count()]
    todo = [part for part in mine if not _parts.is_intact(folder / _parts.name(part))]
    for part, pieces in itertools.groupby(work.found(todo), itemgetter(0)):
        own = (piece for _, piece in pieces)
        found = _parts.segments(own, work.n_latents, work.tokens_ST.size, memory)
        _parts.save(folder / _parts.name(part), found)


def _finish(work: Job, path: Path, memory: int) -> None:
    """Merges the parts; they are removed when the cache is whole."""
    parts, n_places = path / _parts.FOLDER, work.tokens_ST.size
    found = []
    for part in range(work.n_parts):
        found += _parts.load(parts / _parts.name(part), work.n_latents, n_places)
    dtype = _parts.place_dtype(n_places)
    listed = merge(path, found, work.n_latents, dtype, memory)
    listed["tokens.npy"] = save(path / "tokens.npy", work.tokens_ST.astype("<i4"))
    listed["mask.npy"] = save(path / "mask.npy", work.mask_ST)
    manifest = {"format": FORMAT, "recipe": work.recipe, "files": listed}
    with files.whole(path / MANIFEST) as half:
        half.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    shutil.rmtree(parts)
