"""Streams of activations: batch t is a pure function of (seed, t), so a step is the whole position.

A stream is one file here without a leading underscore, and `make` finds the function of its own name in it.
The file of a stream of a language model's activations also has a function `origin` of some of the same
arguments, which says where the rows come from before any is read; `FROM_HARVEST = True` in it says that its
`path` is the folder that `dictlearn harvest` fills. A stream whose function takes `lm` and `recipe` runs the
model itself. `blocks` gives the order in which a stream reads its rows.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import grain
import jax
import numpy as np

from dictlearn import normalise
from dictlearn.lm.text import Packed
from dictlearn.types import Batch

Process = tuple[int, int]
"""(index, count): which of how many processes reads."""


ALIKE = ("store", "from_lm")
"""Streams of one language model's activations. What only the other one reads is ignored, so that one word of
a config changes one into the other."""


class Origin(NamedTuple):
    """Where rows come from: taps of one language model that reads packed text.

    model: the name of the model and what its weights were read from, as `LM.source` has it. read, written:
    the taps of x and of y, side by side. text: what the text is and how long its sequences are, which says
    which token a key names. held_out: gives the packed documents that no row comes from. path: the store
    that holds the rows; None where the stream runs the model. scales: where each row is of one of the taps
    `read`, the scale of each of them; empty where they stand side by side."""

    model: Mapping[str, Any]
    read: tuple[str, ...]
    written: tuple[str, ...]
    text: Mapping[str, Any]
    held_out: Callable[[], Packed]
    path: Path | None = None
    scales: tuple[float, ...] = ()


class Stream(NamedTuple):
    """Activations in batches.

    batches: a random-access dataset without end; element t is `Batch` t of this process, float32,
    normalised. norm: how. n_rows: rows that one epoch visits, None if rows never repeat.
    held_out: raw batches that are never trained on, the last one short; None where the stream has
    none. truth: the planted unit atoms [N, D] of a synthetic stream, one per true feature.
    origin: the language models whose activations x and y are, in the order in which they stand side by
    side; None where no model is known."""

    d_in: int
    d_out: int
    batches: grain.MapDataset
    norm: normalise.Norm
    n_rows: int | None = None
    held_out: grain.MapDataset | None = None
    truth: np.ndarray | None = None
    origin: tuple[Origin, ...] | None = None

    def batch(self, step: int) -> Batch:
        """Batch `step` of this process."""
        return cast(Batch, self.batches[step])


def names() -> list[str]:
    """The streams there are: the files here without a leading underscore."""
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in files if name[0] != "_")


def make(name: str, *, batch_size: int, seed: int, **arguments: Any) -> Stream:
    """The stream of that name. `batch_size` counts the tokens of all processes together.

    Errors: ValueError for an unknown name, TypeError for an unknown argument."""
    arguments = _own(name, arguments)
    known = parameters(name)
    for argument in arguments:
        if argument not in known:
            raise TypeError(f"Stream {name} has no argument {argument!r}; it takes {list(known)}.")
    maker = getattr(_module(name), name)
    return maker(batch_size=batch_size, seed=seed, **arguments)


def origin(name: str, **arguments: Any) -> tuple[Origin, ...] | None:
    """What `make` of the same arguments would give as its `origin`, without opening it."""
    of = getattr(_module(name), "origin", None)
    if of is None:
        return None
    known = inspect.signature(of).parameters
    return of(**{key: value for key, value in arguments.items() if key in known})


def parameters(name: str) -> list[str]:
    """The arguments of the stream of that name. Errors: ValueError for an unknown name."""
    return list(inspect.signature(getattr(_module(name), name)).parameters)


def runs_model(name: str) -> bool:
    """Whether the stream runs a language model while it is read."""
    return "lm" in parameters(name)


def from_harvest(name: str) -> bool:
    """Whether the stream's `path` is the folder that `dictlearn harvest` fills."""
    return getattr(_module(name), "FROM_HARVEST", False)


def _own(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without those that only a stream ALIKE reads."""
    if name not in ALIKE:
        return dict(arguments)
    others = {key for one in ALIKE for key in parameters(one)} - set(parameters(name))
    return {key: value for key, value in arguments.items() if key not in others}


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"Unknown stream {name!r}; there are {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")


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
