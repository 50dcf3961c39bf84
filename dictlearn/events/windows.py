"""Where a latent fires, chosen from an event cache: its largest activations, and samples by size or by rank.

Activations are compared by magnitude, because the codes of some dictionaries are negative. A window is a part
of one document in one sequence around a peak.

Axes: P a peak, W a window of fixed length; the others as in `dictlearn.events.cache`.
"""

from typing import NamedTuple

import numpy as np

from dictlearn.events.cache import Events

BEFORE, AFTER = 16, 8
"""Tokens of a window before and after its peak."""
_CANDIDATES = 8
"""How many times as many peaks are looked at as are wanted, because some are too close to each other."""


class Bounds(NamedTuple):
    """The first place and the place after the last of the document of each token, within its sequence."""

    first_U: np.ndarray
    stop_U: np.ndarray

    def around(self, place: int, before: int = BEFORE, after: int = AFTER) -> slice:
        """The window around a place."""
        first, stop = int(self.first_U[place]), int(self.stop_U[place])
        return slice(max(first, place - before), min(stop, place + after + 1))


class Interval(NamedTuple):
    """Activations above `low` and at most `high`. share: of all events of the latent. place_P: a sample."""

    low: float
    high: float
    share: float
    place_P: np.ndarray


def bounds(tokens_ST: np.ndarray, separator: int) -> Bounds:
    """The bounds of windows: documents end in the separator, and are cut where sequences end."""
    place_U = np.arange(tokens_ST.size)
    ends_ST = np.array(tokens_ST == separator)
    ends_ST[:, -1] = True
    ends_U = ends_ST.ravel()
    starts_U = np.concatenate([[True], ends_U[:-1]])
    first_U = np.maximum.accumulate(np.where(starts_U, place_U, 0))
    stop_U = np.minimum.accumulate(np.where(ends_U, place_U + 1, len(place_U))[::-1])[::-1]
    return Bounds(first_U, stop_U)


def top(found: Events, latent: int, n: int, limits: Bounds) -> np.ndarray:
    """The places of the largest activations of a latent, the largest first.

    Args:
        found: the events.
        latent: the latent.
        n: how many, at most.
        limits: the bounds of windows.

    Returns:
        Places `[P]`. No window holds the peak of another, and no two windows have the same tokens.
    """
    place_E, val_E = found.of(latent)
    size_E, most = np.abs(val_E), min(len(val_E), _CANDIDATES * n)
    largest = np.argpartition(-size_E, most - 1)[:most] if most else np.empty(0, int)
    order = largest[np.lexsort((place_E[largest], -size_E[largest]))]
    chosen, spoken, tokens_U = [], set(), found.tokens_ST.reshape(-1)
    for place in place_E[order].tolist():
        shown = limits.around(place)
        words = tokens_U[shown].tobytes()
        if words not in spoken and not any(shown.start <= one < shown.stop for one in chosen):
            chosen.append(place)
            spoken.add(words)
            if len(chosen) == n:
                break
    return np.array(chosen, np.int64)


def intervals(found: Events, latent: int, n: int, each: int, seed: int = 0) -> list[Interval]:
    """Samples of a latent's activations from `n` intervals of equal width up to its largest, the largest first.

    Args:
        found: the events.
        latent: the latent.
        n: the number of intervals.
        each: the number of peaks from each, at most, drawn without replacement.
        seed: of the draw, which is a function of (seed, latent).

    Returns:
        The intervals. Their shares add up to 1; a latent that never fires has none.
    """
    place_E, val_E = found.of(latent)
    size_E, random = np.abs(val_E), np.random.default_rng((seed, latent))
    if not len(size_E):
        return []
    width = float(size_E.max()) / n
    group_E = np.clip(np.ceil(size_E / width).astype(int) - 1, 0, n - 1)
    drawn = []
    for group in reversed(range(n)):
        own = np.flatnonzero(group_E == group)
        some = np.sort(random.choice(own, min(each, len(own)), replace=False))
        share = len(own) / len(size_E)
        drawn.append(Interval(group * width, (group + 1) * width, share, place_E[some]))
    return drawn


def histogram(found: Events, latent: int, n: int = 50) -> np.ndarray:
    """The number of activations in `n` bins of equal width from 0 to the largest magnitude."""
    size_E = np.abs(found.of(latent)[1])
    return np.histogram(size_E, n, (0.0, float(size_E.max(initial=0.0)) or 1.0))[0]


def maxima(found: Events, latent: int, length: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """(window_W, val_W): the windows of `length` tokens on which a latent fires, and its largest magnitudes.

    Sequences are cut into windows from their start; window w begins at place w * length. `length` must divide
    the length of sequences (ValueError).
    """
    if found.length % length:
        raise ValueError(f"{length=} must divide the {found.length} tokens of a sequence.")
    place_E, val_E = found.of(latent)
    window_W, first = np.unique(place_E // length, return_index=True)
    return window_W, np.maximum.reduceat(np.abs(val_E), first) if len(first) else np.abs(val_E)


def pooled(found: Events, latent: int, length: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """(tokens_WT, val_WT) of the windows of `maxima`, the one with the largest magnitude first."""
    window_W, most_W = maxima(found, latent, length)
    place_E, val_E = found.of(latent)
    val_WT = np.zeros((len(window_W), length), np.float32)
    row_E = np.searchsorted(window_W, place_E // length)
    val_WT[row_E, place_E % length] = val_E
    order_W = np.argsort(-most_W, kind="stable")
    return found.tokens_ST.reshape(-1, length)[window_W[order_W]], val_WT[order_W]


def quantiles(
    found: Events, latent: int, n: int = 10, each: int = 5, length: int = 32, seed: int = 22
) -> list[np.ndarray]:
    """Samples of a latent's windows from `n` equal slices of their rank, the weakest slice first.

    Args:
        found: the events.
        latent: the latent.
        n: the number of slices.
        each: the number of windows from each, at most, drawn without replacement.
        length: the number of tokens of a window, as in `maxima`.
        seed: of the draw, which is a function of (seed, latent).

    Returns:
        The numbers of the windows of each slice.
    """
    window_W, val_W = maxima(found, latent, length)
    random = np.random.default_rng((seed, latent))
    slices = np.array_split(window_W[np.argsort(val_W, kind="stable")], n)
    return [random.choice(one, min(each, len(one)), replace=False) for one in slices]
