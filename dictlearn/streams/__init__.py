"""Streams of activations: batch t is a pure function of (seed, t), so the step is the full position of a
stream.

A stream is one file of this folder without a leading underscore, and `make` finds the function of its own
name in it. The file of a stream of a language model's activations also has a function `origin` of some of the
same arguments. It returns the origin of the rows before any is read. With `FROM_HARVEST = True`, the stream's
`path` is the folder that `dictlearn harvest` fills. A stream whose function takes `lm` and `recipe` runs the
model itself. `blocks` gives the order in which a stream reads its rows.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import grain
import jax
import numpy as np

from dictlearn import normalise
from dictlearn.lm.text import Packed
from dictlearn.types import Batch

__all__ = ["make", "names", "origin", "read"]

Process = tuple[int, int]
"""(index, count): the index of the reading process, and the number of processes."""


_EPOCHS = 1 << 32
"""More than a run reads. Grain's endless order is too long to be counted in batches of one block."""

ALIKE = ("store", "from_lm")
"""Streams of the activations of one language model. Arguments that only the other one takes are ignored, so
that a config can switch between them by their name."""


class Origin(NamedTuple):
    """The origin of rows: taps of one language model that reads packed text.

    model: the name of the model and the files of its weights, as in `LM.source`. read, written: the taps
    of x and of y, concatenated. text: the name of the text and the length of its sequences, which define
    the token of a key. held_out: returns the packed documents that no row comes from. path: the store
    that holds the rows; None where the stream runs the model. scales: where each row comes from one of
    the taps `read`, the scale of each of them; empty where the taps are concatenated. rows: what else
    defines the rows, as JSON: the files of a store by their checksum, how the text was split and cut.
    """

    model: Mapping[str, Any]
    read: tuple[str, ...]
    written: tuple[str, ...]
    text: Mapping[str, Any]
    held_out: Callable[[], Packed]
    path: Path | None = None
    scales: tuple[float, ...] = ()
    rows: Mapping[str, Any] = {}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The content of the rows, as names and checksums."""
        taps = {"tap": list(self.read), "target": list(self.written)}
        return {"model": dict(self.model), **taps, **self.text, **self.rows}


class Stream(NamedTuple):
    """Activations in batches.

    batches: an infinite random-access dataset; element t is `Batch` t of this process, float32,
    normalised. norm: its normalisation. n_rows: the number of rows of one epoch, None if rows never
    repeat. held_out: raw batches that are never trained on, the last one shorter; None where nothing is
    held out. truth: the planted unit atoms [N, D] of a synthetic stream, one for each true feature.
    origin: the language models of the activations x and y, in the order of their concatenation; None
    where no model is known. reads: what else defines the rows, as JSON: an array by its `files.digest`,
    and what decides which of its rows are held out.
    """

    d_in: int
    d_out: int
    batches: grain.MapDataset
    norm: normalise.Norm
    n_rows: int | None = None
    held_out: grain.MapDataset | None = None
    truth: np.ndarray | None = None
    origin: tuple[Origin, ...] | None = None
    reads: Mapping[str, Any] = {}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The content of the rows, as names and checksums. A run continues only on equal ones."""
        return {**fingerprint(self.origin or ()), **self.reads}

    def batch(self, step: int) -> Batch:
        """Batch `step` of this process."""
        return cast(Batch, self.batches[step])


def fingerprint(origin: Sequence[Origin]) -> dict[str, Any]:
    """The fingerprint of rows of several origins, concatenated."""
    if len(origin) == 1:
        return origin[0].fingerprint
    return {str(side): one.fingerprint for side, one in enumerate(origin)}


def names() -> list[str]:
    """The names of all streams: the files of this folder without a leading underscore.

    Returns:
        The names in alphabetical order.

    Example:
        >>> "store" in names(), "synthetic" in names()
        (True, True)
    """
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in files if name[0] != "_")


def make(name: str, *, batch_size: int, seed: int, **arguments: Any) -> Stream:
    """The stream `name`.

    Args:
        name: a stream, of `names()`.
        batch_size: the number of tokens of a batch, over all processes.
        seed: the seed of the stream.
        arguments: further arguments of the stream.

    Returns:
        A Stream.

    Raises:
        ValueError: for an unknown name.
        TypeError: for an unknown argument.

    Example:
        >>> stream = make("synthetic", batch_size=8, seed=0, d_in=4, n_features=8)
        >>> stream.batch(0).x_BD.shape
        (8, 4)
        >>> bool((stream.batch(5).x_BD == stream.batch(5).x_BD).all())
        True
    """
    arguments = _own(name, arguments)
    known = parameters(name)
    for argument in arguments:
        if argument not in known:
            raise TypeError(f"stream {name} has no argument {argument!r}; it takes {list(known)}.")
    return maker(name)(batch_size=batch_size, seed=seed, **arguments)


def origin(name: str, **arguments: Any) -> tuple[Origin, ...] | None:
    """The `origin` of the stream that `make` would return for the same arguments, without opening it.

    Args:
        name: a stream, of `names()`.
        arguments: arguments of the stream.

    Returns:
        One Origin for each language model; None where no model is known.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> origin("synthetic", batch_size=8, seed=0) is None
        True
    """
    of = getattr(_module(name), "origin", None)
    if of is None:
        return None
    known = inspect.signature(of).parameters
    return of(**{key: value for key, value in arguments.items() if key in known})


def parameters(name: str) -> list[str]:
    """The arguments of the stream `name`. Raises ValueError for an unknown name."""
    return list(inspect.signature(maker(name)).parameters)


def maker(name: str) -> Callable[..., Stream]:
    """The function that opens the stream `name`. Raises ValueError for an unknown name."""
    return getattr(_module(name), name)


def runs_model(name: str) -> bool:
    """Whether the stream `name` runs a language model while it is read."""
    return "lm" in parameters(name)


def from_harvest(name: str) -> bool:
    """Whether the `path` of the stream `name` is the folder that `dictlearn harvest` fills."""
    return getattr(_module(name), "FROM_HARVEST", False)


def _own(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without the ones that only the other stream of ALIKE takes."""
    if name not in ALIKE:
        return dict(arguments)
    others = {key for one in ALIKE for key in parameters(one)} - set(parameters(name))
    return {key: value for key, value in arguments.items() if key not in others}


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"unknown stream {name!r}; the streams are {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")


def read(stream: Stream, start: int = 0) -> Iterator[Batch]:
    """Reads batches in order, ahead of their use in threads.

    Args:
        stream: the stream.
        start: the step of the first batch.

    Returns:
        An iterator of batches. Its `get_state()` is {"next_index": step}, the step of its next batch, and
        `set_state` moves it.

    Raises:
        ValueError: for a negative start.

    Example:
        >>> stream = make("synthetic", batch_size=8, seed=0, d_in=4, n_features=8)
        >>> batch = next(read(stream, start=3))
        >>> bool((batch.x_BD == stream.batch(3).x_BD).all())
        True
    """
    if start < 0:
        raise ValueError(f"{start=} must be a step of at least 0.")
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    iterator = iter(stream.batches.to_iter_dataset(options))
    iterator.set_state({"next_index": start})
    return iterator


def blocks(
    n_rows: int, block_rows: int, batch_size: int, seed: int, process: Process | None = None
) -> grain.MapDataset:
    """The order in which a stream reads its rows.

    The rows are split into blocks of `block_rows` consecutive rows; the remaining rows at the end, fewer
    than `block_rows`, are never read. Blocks are shuffled over the whole epoch, differently in every
    epoch, and a batch may span two epochs. Process i of n takes the i-th part of the batch, so neither
    the rows of global batch t nor their order depend on the number of processes.

    Args:
        n_rows: the number of rows.
        block_rows: the number of rows of a block.
        batch_size: the number of rows of a batch, over all processes.
        seed: the seed of the order.
        process: (index, count) of this process; None to ask JAX.

    Returns:
        A dataset whose element t holds the indices, int64, of the blocks of batch t for this process.

    Raises:
        ValueError: for a batch that is larger than the data, or not an integer number of blocks for each
            process.
    """
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
    order = grain.MapDataset.range(n_blocks).seed(seed).shuffle().repeat(_EPOCHS)
    share = batch_size // block_rows // count
    mine = slice(index * share, (index + 1) * share)
    return order.batch(share * count).map(lambda block_K: block_K[mine])
