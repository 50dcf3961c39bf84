"""What feature files of other tools show of a latent's text: whole sequences around single tokens, in groups.

The first group has the TOP largest activations. The others have at most PART each, evenly drawn by rank, from
PARTS intervals of equal width below the largest. Numbers have five significant digits.

Source: sae-dashboard 0.8.0, `sequence_data_generator.py`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dictlearn.analyses._passages import readable
from dictlearn.events import Events
from dictlearn.lm import LM

TOP, PARTS, PART = 20, 5, 5


class Group(NamedTuple):
    """Places of activations above `low` and at most `high`. share: of all tokens. The first group, of the
    largest activations, has -1 for `low` and `share`."""

    low: float
    high: float
    share: float
    places: list[int]


class Shown(NamedTuple):
    """A sequence around the token `peak`."""

    tokens: list[str]
    values: list[float]
    peak: int


def groups(found: Events, latent: int) -> Iterator[Group]:
    """The groups of a latent that fires, the largest activations first."""
    place_E, val_E = found.of(latent)
    order_E = np.argsort(-val_E, kind="stable")
    largest = float(val_E[order_E[0]])
    yield Group(-1.0, largest, -1.0, place_E[order_E[:TOP]].tolist())
    edges = np.linspace(0, largest, PARTS + 1).tolist()
    for low, high in zip(edges[-2::-1], edges[:0:-1], strict=True):
        own_E = order_E[(val_E[order_E] > low) & (val_E[order_E] <= high)]
        ranks = np.unique(np.linspace(0, max(len(own_E) - 1, 0), PART).round().astype(int))
        drawn_E = own_E[ranks[: len(own_E)]]
        yield Group(low, high, len(own_E) / found.n_tokens, place_E[drawn_E].tolist())


def sequence(lm: LM, found: Events, latent: int, place: int) -> Shown:
    """The sequence of a place."""
    number, position = divmod(place, found.length)
    first = number * found.length
    own_E, there_E = found.within(latent, slice(first, first + found.length))
    val_T = np.zeros(found.length, np.float32)
    val_T[own_E - first] = there_E
    tokens = [readable(lm.tokenizer, v) for v in found.tokens_ST[number].tolist()]
    return Shown(tokens, short(val_T), position)


def layer(target: Sequence[str]) -> int:
    """The layer of the first tap that a dictionary writes; 0 for a tap without one."""
    number = re.search(r"\d+", target[0])
    return int(number[0]) if number else 0


def histogram(val_E: np.ndarray, bins: int) -> tuple[list[float], list[int]]:
    """(the middles, the heights) of bars from the smallest value to the largest."""
    heights, edges = np.histogram(val_E, bins)
    return short((edges[:-1] + edges[1:]) / 2), heights.tolist()


def short(values: Sequence[float] | np.ndarray) -> list[float]:
    """The numbers with five significant digits."""
    return [float(f"{value:.5g}") for value in values]
