"""Harvesting: run a language model over text once, and write the activations at its taps to a store.

Documents are split into train and held-out documents and packed into sequences, and the train sequences
are split into shards of whole sequences. The rows of a shard are its unmasked tokens, in an order drawn
from (seed, shard number). A shard is therefore a pure function of the recipe and its number, and a killed
harvest is continued by running it again. Of n processes, which must all see the same folder, process i writes
every n-th shard. The bytes are the same for every n.

The device works one forward pass ahead. A finished shard is hashed and written in a separate thread while the
next shard is computed.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dictlearn import lm as language
from dictlearn.runs.owner import owned
from dictlearn.streams import _store_write
from dictlearn.streams._barrier import barrier
from dictlearn.streams._source import Forward, Recipe, Source, cut, shuffled


def harvest(
    lm: language.LM,
    path: str | Path,
    taps: str | Sequence[str],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    allow_changed: bool = False,
    **recipe: Any,
) -> None:
    """Writes the activations at some taps to a store. A complete store of the same recipe is left unchanged.

    Args:
        lm: the language model.
        path: the folder of the store.
        taps: as in `streams._source.Recipe`.
        progress: called with (rows done, rows in total) of this process, after every forward pass and for every
            shard that exists already.
        allow_changed: whether to leave a complete store of another recipe unchanged, and to continue an
            unfinished store with other weights of its model, which its manifest then lists.
        recipe: the other fields of `Recipe`.

    Raises:
        ValueError: for an unknown tap or dtype, too little text, a folder with other content, and activations
            that are not finite in `dtype`.
        OSError: for a full disk.
        RuntimeError: if another process failed.
        InUse: while another harvest fills the store.
    """
    path, source = Path(path), Source(lm, Recipe.of(taps=taps, **recipe))
    with owned(path, "dictlearn harvest"):
        _fill(path, source, allow_changed, progress)


def _fill(path: Path, source: Source, allow_changed: bool, progress) -> None:
    manifest = _store_write.begin(path, source.identity(), allow_changed)
    if manifest is None:
        return
    with barrier(f"Harvesting into {path}"):
        if jax.process_index() == 0:
            _store_write.add_tokens(path, manifest, "train", *source.train)
            _store_write.add_tokens(path, manifest, "held_out", *source.held_out)
        _write_shards(path, manifest, source, progress)
    _store_write.complete(path, manifest)


def _write_shards(path, manifest, source: Source, progress) -> None:
    mine = _shards(source)[jax.process_index() :: jax.process_count()]
    total = sum(rows for _, _, rows in mine)
    there = [_store_write.shard_name(shard) in manifest["shards"] for shard, _, _ in mine]
    done = 0
    for (_, _, rows), skip in zip(mine, there, strict=True):
        if skip:
            done += rows
            progress(done, total)
    todo = [job for job, skip in zip(mine, there, strict=True) if not skip]
    if not todo:
        return
    forward, size = Forward(source, source.widths), source.recipe.lm_batch
    pieces_of = forward.rows(source.train, (s for _, chosen, _ in todo for s in cut(chosen, size)))
    with ThreadPoolExecutor(1) as writer:
        writing = None
        for shard, chosen_S, _ in todo:
            pieces = []
            for _ in cut(chosen_S, size):
                pieces.append(next(pieces_of))
                done += len(pieces[-1]["sequence_R"])
                progress(done, total)
            if writing is not None:
                writing.result()
            writing = writer.submit(_write, path, manifest, shard, pieces, source.recipe.seed)
        if writing is not None:
            writing.result()


def _write(path, manifest, shard: int, pieces, seed: int) -> None:
    _store_write.add_shard(path, manifest, shard, shuffled(pieces, seed, (shard,)))


def _shards(source: Source) -> list[tuple[int, np.ndarray, int]]:
    """(number, its sequences, its rows) of every shard."""
    rows_S = source.train.mask_ST.sum(axis=1)
    shard_S = (np.cumsum(rows_S) - rows_S) // source.recipe.shard_rows
    number, first = np.unique(shard_S, return_index=True)
    chosen = np.split(np.arange(len(rows_S)), first[1:])
    return [(int(n), s, int(rows_S[s].sum())) for n, s in zip(number, chosen, strict=True)]
