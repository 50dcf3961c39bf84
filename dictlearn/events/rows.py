"""The rows that a dictionary is read on: the activations of a text, part by part, in the order of the text.

of_text    a language model runs over the text (`config.harvest`)
of_store   the train sequences of a store, which `dictlearn harvest` wrote: nothing runs
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dictlearn import lm as language
from dictlearn.streams import store
from dictlearn.streams._source import Forward, Recipe, Source, cut

PART_TOKENS = 65536
"""About the number of tokens of a part, which a killed writer loses at most."""

Piece = tuple[int, Mapping[str, np.ndarray], np.ndarray]


class Rows(NamedTuple):
    """The activations of a text.

    Args:
        tap: the taps that the dictionary reads, concatenated.
        tokens_ST, mask_ST: the text; only unmasked tokens have rows.
        n_parts: the number of parts.
        identity: everything that determines the rows, as JSON.
        read: chosen parts -> (part, the rows of each tap with `sequence_R` and `position_R`, their order in the
            text) for each piece of these parts. The parts come in their order.
    """

    tap: tuple[str, ...]
    tokens_ST: np.ndarray
    mask_ST: np.ndarray
    n_parts: int
    identity: Mapping[str, Any]
    read: Callable[[Sequence[int]], Iterator[Piece]]


def of_text(lm: language.LM, tap: Sequence[str], **recipe: Any) -> Rows:
    """The activations of a language model on a text.

    Args:
        lm: the model.
        tap: the taps to read, concatenated.
        recipe: the text, as in `config.harvest`; all of it is read.

    Returns:
        Rows. The model runs when they are read.

    Raises:
        ValueError: for what a harvest refuses.
    """
    recipe = {"held_out": 0.0, "dtype": "float32", **recipe}
    source = Source(lm, Recipe.of(taps=tuple(tap), **recipe))
    packed, size = source.train, source.recipe.lm_batch
    n_sequences = len(packed.tokens_ST)
    jobs = list(cut(np.arange(n_sequences), size))
    each = max(1, PART_TOKENS // (size * packed.tokens_ST.shape[1]))

    def read(chosen: Sequence[int]) -> Iterator[Piece]:
        mine = [(part, job) for part in chosen for job in jobs[part * each : (part + 1) * each]]
        if mine:
            forward = Forward(source, source.taps)
            found = forward.rows(packed, (job for _, job in mine))
            for (part, _), rows in zip(mine, found, strict=True):
                yield part, rows, np.arange(len(rows["sequence_R"]))

    n_parts = -(-len(jobs) // each)
    identity = {**source.identity(), "part_jobs": each}
    return Rows(tuple(source.taps), *packed, n_parts, identity, read)


def of_store(
    path: str | Path, tap: str | Sequence[str] | None = None, n_tokens: int | None = None
) -> Rows:
    """The activations in a store, of its train sequences.

    Args:
        path: the folder of the store.
        tap: the taps to read, concatenated; None for the only one.
        n_tokens: only the first sequences, which hold at most so many tokens and at least one sequence; None
            for all.

    Returns:
        Rows; a shard is a part.

    Raises:
        FileNotFoundError, ValueError: for a store that is unfinished or damaged, and for an unknown tap.
    """
    (origin,) = store.origin(path, tap)
    shards = store.open_manifest(path)["shards"]
    tokens_ST, mask_ST = store.tokens(path, "train")
    total_S = np.cumsum(mask_ST.sum(axis=1))
    most = int(total_S[-1]) if n_tokens is None else n_tokens
    n = max(1, int(np.searchsorted(total_S, most, side="right")))
    rows_R = np.cumsum([entry["rows"] for entry in shards.values()])
    names = list(shards)[: int(np.searchsorted(rows_R, total_S[n - 1])) + 1]

    def read(chosen: Sequence[int]) -> Iterator[Piece]:
        for part in chosen:
            rows = store.map_tensors(path, names[part])
            order_R = np.lexsort((rows["position_R"], rows["sequence_R"]))
            yield part, rows, order_R[: np.count_nonzero(rows["sequence_R"] < n)]

    identity = {"model": origin.model, **origin.text, **origin.rows, "n_sequences": n}
    return Rows(origin.read, tokens_ST[:n], mask_ST[:n], len(names), identity, read)
