"""Held-out activations of a run in blocks of tokens, each block read when it is needed.

Where the run has one language model, its held-out documents pass through the model, and other taps may be read
beside. Otherwise the rows are those of the stream: held-out ones if it has any, else the first training ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import lm as language
from dictlearn.analyses._subject import Subject
from dictlearn.experiment.models import SEQUENCES, held_out_sequences
from dictlearn.experiment.stream import origin
from dictlearn.lm.splice import side_by_side
from dictlearn.streams import Origin
from dictlearn.types import Batch


class Block(NamedTuple):
    """Tokens that are read at once. mask_B: which of them count. taps: other activations of the same tokens.
    text: their sequences, and which tokens count; None for rows of a stream."""

    x_BD: np.ndarray
    y_BD: np.ndarray
    mask_B: np.ndarray
    taps: Mapping[str, np.ndarray] = {}
    text: tuple[jax.Array, jax.Array] | None = None


class Blocks(NamedTuple):
    """`read(t)` is block t of n. written: the taps of y; () for rows of a stream."""

    n: int
    read: Callable[[int], Block]
    written: tuple[str, ...] = ()


def blocks(subject: Subject, n_tokens: int, skip: int, others: Sequence[str]) -> Blocks:
    """The blocks of a run.

    Args:
        subject: the run.
        n_tokens: the largest number of tokens.
        skip: the number of tokens at the beginning of each sequence that do not count.
        others: patterns of other taps of the model, to read beside.

    Returns:
        Blocks.

    Raises:
        ValueError: for `skip` or `others` without a language model, and for an unknown tap.
    """
    sources = list(origin(subject.config) or ())
    if subject.config.get("model") and len(sources) == 1 and not sources[0].scales:
        return _of_text(subject.lm, sources[0], n_tokens, skip, others)
    if skip or others:
        raise ValueError(
            f"{skip=} and the taps {others} need one language model, which the config of {subject.name} does "
            "not have; set model, or leave both out."
        )
    return _of_stream(subject, n_tokens)


def _of_text(
    lm: language.LM, source: Origin, n_tokens: int, skip: int, others: Sequence[str]
) -> Blocks:
    tokens_ST, mask_ST = (np.asarray(part) for part in held_out_sequences([source]))
    lm.check_tokens(tokens_ST, "The held-out text")
    mask_ST = mask_ST & (np.arange(tokens_ST.shape[1]) >= skip)
    beside = language.expand_taps(lm.spec, others) if others else []
    names = tuple(dict.fromkeys((*source.read, *source.written, *beside)))
    at = jax.jit(lambda params, tokens: {k: lm.forward(params, tokens)[1][k] for k in names})
    rows = lambda found, taps: _rows(side_by_side(found, taps))

    def read(t: int) -> Block:
        tokens, mask = (
            jnp.asarray(a[t * SEQUENCES : (t + 1) * SEQUENCES]) for a in (tokens_ST, mask_ST)
        )
        found = at(lm.params, tokens)
        other = {name: rows(found, [name]) for name in beside}
        x_BD, y_BD = rows(found, source.read), rows(found, source.written)
        return Block(x_BD, y_BD, np.asarray(mask).reshape(-1), other, (tokens, mask))

    n = min(n_tokens // tokens_ST.shape[1], len(tokens_ST)) // SEQUENCES
    return Blocks(n, read, source.written)


def _of_stream(subject: Subject, n_tokens: int) -> Blocks:
    stream, size = subject.stream, subject.config["batch_size"]
    rows: Any = stream.batches if stream.held_out is None else stream.held_out
    n = n_tokens // size if stream.held_out is None else min(n_tokens // size, len(rows))

    def read(t: int) -> Block:
        batch = cast(Batch, rows[t])
        x_BD, y_BD = np.asarray(batch.x_BD), np.asarray(batch.y_BD)
        return Block(x_BD, y_BD, np.ones(len(x_BD), bool))

    return Blocks(n, read)


def _rows(found_STD: jax.Array) -> np.ndarray:
    return np.asarray(found_STD, np.float32).reshape(-1, found_STD.shape[-1])
