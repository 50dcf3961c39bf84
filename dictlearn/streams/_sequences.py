"""Whole sequences from a language model, for objectives that run it: batches that carry a `Context`.

Batch t holds S = batch_size / sequence_length of a harvest's train sequences, shuffled over the whole epoch,
differently in every epoch. x_BD and y_BD are the activations at their taps, token after token. The row of a
masked token is replaced by the row of the next unmasked token, so that no statistic over rows includes
position 0 or a separator. The context has the activations unchanged. The model's parameters are placed on the
mesh once and carried by every batch, so they are an argument of the compiled program.
"""

import functools
from collections.abc import Sequence

import grain
import numpy as np

from dictlearn import sharding
from dictlearn.lm import splice
from dictlearn.normalise import SCALAR_KINDS, apply, estimate
from dictlearn.streams import Origin, Process, Stream, blocks
from dictlearn.streams._ahead import Ahead
from dictlearn.streams._source import Forward, Source
from dictlearn.types import Batch, Context

_SAMPLE_ROWS = 32_768
"""Rows that the normalisation is estimated from."""


def stream(
    source: Source,
    origin: Origin,
    batch_size: int,
    seed: int,
    normalise: str = "none",
    process: Process | None = None,
) -> Stream:
    """The stream of whole sequences at the taps of `origin`; the context's tap is the written one.

    Raises ValueError for several concatenated taps, a batch that is not an integer number of sequences for
    every process, and a normalisation that is not a scalar.
    """
    if normalise not in SCALAR_KINDS:
        raise ValueError(
            f"normalise={normalise!r} is not one scale, which a spliced reconstruction is divided by; use one "
            f"of {', '.join(SCALAR_KINDS)}."
        )
    read, write = (_one(taps) for taps in (origin.read, origin.written))
    packed = source.train
    length = packed.tokens_ST.shape[1]
    if batch_size % length:
        raise ValueError(f"{batch_size=} must be a multiple of sequence_length={length}.")
    order = blocks(len(packed.tokens_ST), 1, batch_size // length, seed, process)
    forward, ahead = Forward(source, {read, write}), Ahead()
    params = sharding.resident(source.lm.params)
    at_tap = functools.partial(splice.run, source.lm.forward, (write,))

    def raw(sequence_S: np.ndarray) -> tuple[Batch, dict]:
        found = ahead.submit(_compute, forward, packed, sequence_S).result()
        mask_ST = packed.mask_ST[sequence_S]
        row_B = _unmasked(mask_ST.reshape(-1))
        rows = lambda name: found[name].reshape(len(row_B), -1)[row_B].astype(np.float32)
        x_BD = rows(read)
        whole = {
            "tokens_ST": packed.tokens_ST[sequence_S],
            "mask_ST": mask_ST,
            "y_STD": found[write].astype(np.float32),
        }
        return Batch(x_BD, x_BD if read == write else rows(write)), whole

    some = np.arange(min(len(packed.tokens_ST), -(-_SAMPLE_ROWS // length)))
    norm = estimate(normalise, [raw(some)[0]])
    scale = float(np.asarray(norm.scale_out))

    def batch(sequence_S: np.ndarray) -> Batch:
        found, whole = raw(sequence_S)
        context = Context(**whole, params=params, splice=at_tap, scale=scale)
        return apply(norm, found)._replace(context=context)

    widths, n_rows = source.widths, packed.tokens_ST.size
    rows = grain.MapDataset.map(order, batch)
    return Stream(widths[read], widths[write], rows, norm, n_rows, origin=(origin,))


def _one(taps: Sequence[str]) -> str:
    if len(taps) > 1:
        raise ValueError(f"An objective that runs the model has one tap, not {list(taps)}.")
    return taps[0]


def _unmasked(mask_B: np.ndarray) -> np.ndarray:
    """The index of each row or, where it is masked, of the next unmasked row (the last unmasked one at the
    end).
    """
    there = np.flatnonzero(mask_B)
    if not len(there):
        raise ValueError("a batch has no unmasked token; use longer sequences.")
    return there[np.minimum(np.cumsum(mask_B) - mask_B, len(there) - 1)]


def _compute(forward: Forward, packed, sequence_S):
    yield
    return forward.whole(packed, sequence_S)
