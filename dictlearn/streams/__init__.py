"""Streams of activations: batch t is a pure function of (seed, t), so a step is the whole position.

A stream file holds one function of its own name that returns a `Stream`; `make` finds it. To add a
stream, add a file; `blocks` gives the order in which it reads its rows.
"""

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import grain
import jax
import numpy as np

from dictlearn import normalise
from dictlearn.types import Batch

Process = tuple[int, int]
"""(index, count): which of how many processes reads."""


class Stream(NamedTuple):
    """Activations in batches.

    batches: a random-access dataset without end; element t is `Batch` t of this process, float32,
    normalised. norm: how. n_rows: rows that one epoch visits, None if rows never repeat.
    held_out: raw batches that are never trained on, the last one short; None where the stream has
    none. truth: the planted unit atoms [N, D] of a synthetic stream, one per true feature."""

    d_in: int
    d_out: int
    batches: grain.MapDataset
    norm: normalise.Norm
    n_rows: int | None = None
    held_out: grain.MapDataset | None = None
    truth: np.ndarray | None = None

    def batch(self, step: int) -> Batch:
        """Batch `step` of this process."""
        return cast(Batch, self.batches[step])


def names() -> list[str]:
    """The streams there are: files here with a function of their own name that returns a Stream."""
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in files if _maker(name))


def make(name: str, *, batch_size: int, seed: int, **arguments: Any) -> Stream:
    """The stream of that name. `batch_size` counts the tokens of all processes together.

    Errors: ValueError for an unknown name, TypeError for an unknown argument."""
    if not name.isidentifier() or importlib.util.find_spec(f"{__name__}.{name}") is None:
        raise ValueError(f"Unknown stream {name!r}; there are {', '.join(names())}.")
    maker = _maker(name)
    if maker is None:
        raise ValueError(f"{name!r} is not a stream; there are {', '.join(names())}.")
    known = inspect.signature(maker).parameters
    for argument in arguments:
        if argument not in known:
            raise TypeError(f"Stream {name} has no argument {argument!r}; it takes {list(known)}.")
    return maker(batch_size=batch_size, seed=seed, **arguments)


def _maker(name: str) -> Callable[..., Stream] | None:
    maker = getattr(importlib.import_module(f"{__name__}.{name}"), name, None)
    return maker if getattr(maker, "__annotations__", {}).get("return") is Stream else None


def read(stream: Stream, start: int = 0) -> Iterator[Batch]:
    """Batches from step `start` on, in order, read ahead by threads. The iterator's `get_state()`
    is {"next_index": step}, the step of the batch it gives next, and `set_state` moves it."""
    if start < 0:
        raise ValueError(f"{start=} must be a step, 0 or more.")
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    iterator = iter(stream.batches.to_iter_dataset(options))
    iterator.set_state({"next_index": start})
    return iterator


def blocks(
    n_rows: int, block_rows: int, batch_size: int, seed: int, process: Process | None = None
) -> grain.MapDataset:
    """Element t: the numbers, int64 [blocks of one process], of the blocks of rows in batch t.

    The rows are cut into blocks of `block_rows` consecutive ones; what is left over at the end,
    fewer than `block_rows`, is never read. Blocks are shuffled over the whole epoch, every epoch
    anew, and a batch may span two epochs. Process i of n takes the i-th part of the batch, so neither
    the rows of global batch t nor their order depend on how many processes there are.

    Errors: ValueError for a batch that is larger than the data, or not whole blocks per process."""
    index, count = process or (jax.process_index(), jax.process_count())
    if block_rows < 1 or batch_size < 1 or batch_size % (block_rows * count):
        raise ValueError(
            f"{batch_size=} must be a positive multiple of {block_rows=} times {count} "
            "process(es); choose a smaller block_rows or another batch_size."
        )
    n_blocks = n_rows // block_rows
    if n_blocks * block_rows < batch_size:
        raise ValueError(
            f"{batch_size=} exceeds the {n_blocks * block_rows} rows in whole blocks of "
            f"{block_rows} ({n_rows=}); choose a smaller batch_size or give more data."
        )
    order = grain.MapDataset.range(n_blocks).seed(seed).shuffle().repeat()
    share = batch_size // block_rows // count
    mine = slice(index * share, (index + 1) * share)
    return order.batch(share * count).map(lambda block_K: block_K[mine])
