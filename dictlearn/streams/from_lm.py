"""Activations directly from a language model, without a store: recomputed whenever they are needed.

The train sequences of a harvest's recipe are shuffled over the whole epoch, differently in every epoch,
and split into pools of about `pool_rows` rows. The rows of a pool, its unmasked tokens, are shuffled within the
pool. A pool is a pure function of (seed, epoch, number), so batch t is a pure function of (seed, t), and a run
resumes to the bit. While the learner reads one pool, a thread computes the next one.

A store of the same recipe has the same rows; this stream costs a forward pass in each epoch instead of
disk space. The sequences are dealt to `lanes`, and a batch takes the same number of rows from each lane. With
several processes, each computes only its own lanes. So the rows of batch t and their order do not depend on the
number of processes.
"""

import bisect
import functools
import sys
import threading
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple

import grain
import jax
import numpy as np

from dictlearn import lm as language
from dictlearn.lm.text import Packed
from dictlearn.normalise import apply, check_kind, estimate, gradient_scale
from dictlearn.streams import Origin, Process, Stream, _sequences, _taps
from dictlearn.streams._ahead import Ahead
from dictlearn.streams._source import Forward, Recipe, Source, cut, random, shuffled
from dictlearn.types import Batch

_KEPT = 3
"""The number of pools of a lane in memory: of the last batches, of the next ones, and the one after."""


def from_lm(
    lm: language.LM,
    recipe: Mapping[str, Any],
    tap: str | Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
    *,
    batch_size: int,
    seed: int,
    normalise: str = "none",
    pool_rows: int = 32_768,
    lanes: int = 1,
    keys: bool = False,
    gradients: bool = False,
    context: bool = False,
    process: Process | None = None,
) -> Stream:
    """A stream of the activations of `lm`, computed while it is read.

    Rows are rounded to the recipe's dtype, so they equal the rows of a store. The normalisation is estimated
    from the first pool. `held_out` are the rows of the held-out documents.

    Args:
        lm: the language model.
        recipe: the fields of `Recipe`, as in `config.harvest`.
        tap: the taps of the inputs, concatenated, each with its own scale; None for the only tap of the recipe.
        target: the taps of the targets; None for an autoencoder.
        batch_size, seed, normalise, process: as in every stream.
        pool_rows: the number of rows computed at once, at least a batch; memory holds three pools.
        lanes: a multiple of the number of processes.
        keys: batches carry the sequence and the position of each token.
        gradients: batches carry the gradient of the loss at `tap`; the recipe must have `grad.TAP`.
        context: batches are whole sequences and carry the model, for objectives that run it (`_sequences`);
            without pools and lanes.

    Returns:
        A Stream.

    Raises:
        ValueError: for what `harvest` refuses, an unknown tap, lanes that the processes cannot share, and a
            batch that the lanes cannot share or that is larger than the text.
    """
    check_kind(normalise, transcoder=target is not None)
    source = Source(lm, Recipe.of(**recipe))
    (known,) = _origin(source, tap, target)
    if context:
        if keys or gradients:
            raise ValueError(f"{keys=} and {gradients=}: batches with a context carry neither.")
        return _sequences.stream(source, known, batch_size, seed, normalise, process)
    taps = [known.read, known.written]
    d_in, d_out = (_taps.width(source.widths, side) for side in taps)
    slope = source.tap(language.gradients.PREFIX + _taps.only(taps[0])) if gradients else None
    index, count = process or (jax.process_index(), jax.process_count())
    if lanes < 1 or lanes % count or batch_size < 1 or batch_size % lanes:
        raise ValueError(
            f"{batch_size=} must be a positive multiple of {lanes=}, and lanes one of the {count} "
            "process(es); set stream.lanes."
        )
    share, rows_S = batch_size // lanes, source.train.mask_ST.sum(axis=1)
    if min(rows_S[lane::lanes].sum() for lane in range(lanes)) < share:
        raise ValueError(
            f"{batch_size=} exceeds the {rows_S.sum()} rows of the text, dealt to {lanes=}; "
            "choose a smaller batch_size or give more text."
        )
    forward, ahead = Forward(source, {*taps[0], *taps[1], *([slope] if slope else [])}), Ahead()
    size = max(share, pool_rows // lanes, int(rows_S.max()))
    make = lambda n: _Lane(source, forward, ahead, rows_S, (n, lanes), size, seed)
    mine = {n: make(n) for n in range(index * lanes // count, (index + 1) * lanes // count)}

    unlike = dict.fromkeys(taps)

    def batch_of(rows: list[dict[str, np.ndarray]]) -> Batch:
        whole = lambda name: np.concatenate([piece[name] for piece in rows])
        columns = [_taps.side_by_side([whole(name) for name in side]) for side in unlike]
        columns = [column.astype(np.float32) for column in columns]
        found = Batch(columns[0], columns[-1])
        if keys:
            found = found._replace(sequence_B=whole("sequence_R"), position_B=whole("position_R"))
        return found._replace(g_BD=whole(slope).astype(np.float32)) if slope else found

    @functools.cache
    def first() -> Batch:
        return batch_of([(mine.get(0) or make(0)).pool(0, 0)])

    norm = estimate(normalise, (each() for each in (first,)), sources=(len(taps[0]), len(taps[1])))
    if slope:
        square = float(np.square(first().g_BD, dtype=np.float64).sum(axis=1).mean())
        norm = replace(norm, scale_gradient=gradient_scale(source.widths[slope], square))

    def batch(step: int) -> Batch:
        rows = [piece for lane in mine.values() for piece in lane.rows(step * share, share)]
        return apply(norm, batch_of(rows))

    rest = _HeldOut(source, forward, ahead)
    return Stream(
        d_in=d_in,
        d_out=d_out,
        batches=grain.MapDataset.range(sys.maxsize).map(batch),
        norm=norm,
        n_rows=int(rows_S.sum()),
        held_out=grain.MapDataset.range(0, rest.n_rows, batch_size).map(
            lambda start: batch_of([rest.rows(start, batch_size)])
        ),
        origin=(known,),
    )


def origin(
    lm: language.LM,
    recipe: Mapping[str, Any],
    tap: str | Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
) -> tuple[Origin]:
    """The origin of the rows.

    Args:
        lm, recipe, tap, target: as in `from_lm`.

    Returns:
        One Origin.

    Raises:
        ValueError: for what `harvest` refuses, and for an unknown tap.
    """
    return _origin(Source(lm, Recipe.of(**recipe)), tap, target)


def _origin(source: Source, tap, target) -> tuple[Origin]:
    read, written = (_taps.chosen(source.taps, each) for each in (tap, target or tap))
    known = source.identity()
    model, text = known.pop("model"), {key: known.pop(key) for key in ("text", "sequence_length")}
    return (Origin(model, read, written, text, lambda: source.held_out, rows=known),)


class _Plan(NamedTuple):
    """An epoch of a lane.

    sequence_S: its sequences in order. start_P: the first row of each pool, and the number of rows at the end.
    first_P: the first sequence of each pool, and S at the end.
    """

    sequence_S: np.ndarray
    start_P: list[int]
    first_P: list[int]


class _Lane:
    """The rows of every n-th sequence, as one endless list of rows."""

    def __init__(self, source, forward, ahead, rows_S, lane: tuple[int, int], size: int, seed: int):
        number, lanes = lane
        self._source, self._forward, self._ahead, self._rows_S = source, forward, ahead, rows_S
        self._sequence_S = np.arange(number, len(rows_S), lanes)
        self._n_rows = int(rows_S[self._sequence_S].sum())
        self._n_pools = max(1, self._n_rows // size)
        self._seed, self._key = seed, (number, lanes)
        self._pools: OrderedDict[tuple[int, int], Future] = OrderedDict()
        self._lock = threading.Lock()
        self._plan = functools.lru_cache(maxsize=_KEPT)(self._planned)

    def rows(self, start: int, n: int) -> list[dict[str, np.ndarray]]:
        """The `n` rows from index `start` on, in pieces."""
        pieces = []
        while n:
            epoch, row = divmod(start, self._n_rows)
            starts = self._plan(epoch).start_P
            number = bisect.bisect_right(starts, row) - 1
            first, last = row - starts[number], min(row + n, starts[number + 1]) - starts[number]
            pool = self.pool(epoch, number)
            pieces.append({name: rows[first:last] for name, rows in pool.items()})
            start, n = start + last - first, n - (last - first)
        return pieces

    def pool(self, epoch: int, number: int) -> dict[str, np.ndarray]:
        """A pool; starts the computation of the next one."""
        with self._lock:
            found = self._future(epoch, number)
            self._future(*divmod(epoch * self._n_pools + number + 1, self._n_pools))
            while len(self._pools) > _KEPT:
                self._pools.popitem(last=False)
        return found.result()

    def _future(self, epoch: int, number: int) -> Future:
        key = epoch, number
        if key not in self._pools:
            plan, size = self._plan(epoch), self._source.recipe.lm_batch
            chosen_S = plan.sequence_S[plan.first_P[number] : plan.first_P[number + 1]]
            jobs = cut(chosen_S, size)
            self._pools[key] = self._ahead.submit(
                _compute, self._forward, self._source.train, jobs, self._seed, (*self._key, *key)
            )
        self._pools.move_to_end(key)
        return self._pools[key]

    def _planned(self, epoch: int) -> _Plan:
        order_S = random(self._seed, (*self._key, epoch)).permutation(self._sequence_S)
        end_S = np.cumsum(self._rows_S[order_S])
        pool_S = (end_S - self._rows_S[order_S]) * self._n_pools // self._n_rows
        first_P = np.searchsorted(pool_S, np.arange(self._n_pools + 1))
        start_P = np.append(0, end_S)[first_P]
        return _Plan(order_S, start_P.tolist(), first_P.tolist())


class _HeldOut:
    """The rows of the held-out sequences, in the order of the text."""

    def __init__(self, source: Source, forward: Forward, ahead: Ahead):
        self._source, self._forward, self._ahead = source, forward, ahead
        self._end_S = np.cumsum(source.held_out.mask_ST.sum(axis=1))
        self.n_rows = int(self._end_S[-1]) if len(self._end_S) else 0

    def rows(self, start: int, n: int) -> dict[str, np.ndarray]:
        """At most `n` rows from index `start` on."""
        stop = min(start + n, self.n_rows)
        first = int(np.searchsorted(self._end_S, start, side="right"))
        last = int(np.searchsorted(self._end_S, stop)) + 1
        jobs = cut(np.arange(first, last), self._source.recipe.lm_batch)
        found = self._ahead.submit(_compute, self._forward, self._source.held_out, jobs).result()
        skipped = start - (int(self._end_S[first - 1]) if first else 0)
        return {name: rows[skipped : skipped + stop - start] for name, rows in found.items()}


def _compute(
    forward: Forward,
    packed: Packed,
    jobs,
    seed: int | None = None,
    key: tuple[int, ...] = (),
) -> Generator[None, None, dict[str, np.ndarray]]:
    """The rows of some sequences, in order or, with a seed, shuffled by (seed, key)."""
    pieces = []
    for piece in forward.rows(packed, jobs):
        pieces.append(piece)
        yield
    if seed is not None:
        return shuffled(pieces, seed, key)
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
