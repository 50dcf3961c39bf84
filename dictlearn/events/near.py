"""The nearest latents of every latent: by their directions, and by where they fire.

    cosine       <w_i, w_j> / (|w_i| |w_j|), of decoder or of encoder rows
    jaccard      the tokens on which both fire, over those on which either does
    pearson      the correlation of the codes over all tokens, zeros included

Jaccard and Pearson come from one sparse product of the events with themselves, some latents at a time.

Axes: N a neighbour; the others as in `dictlearn.events.cache`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dictlearn.events.cache import Events

MOST_TOKENS = 1_000_000
_BLOCK = 1 << 23
"""Scores that are held at once, at most: 100 MB with what they are made of."""


class Near(NamedTuple):
    """For each latent the nearest others, the nearest first; -1 where there are fewer, with a score of 0."""

    latent_FN: np.ndarray
    score_FN: np.ndarray

    def of(self, latent: int) -> list[tuple[int, float]]:
        """(latent, score) of the neighbours of one latent."""
        pairs = zip(self.latent_FN[latent].tolist(), self.score_FN[latent].tolist(), strict=True)
        return [(one, score) for one, score in pairs if one >= 0]


def compared(found: Events) -> Events:
    """The events on which pages and exports compare latents: the first sequences, of at most MOST_TOKENS
    tokens, and at least one."""
    return found.first(max(1, MOST_TOKENS // found.length))


def cosine(rows_FD: np.ndarray, n: int = 5) -> Near:
    """The nearest latents by the cosine of their rows; a row of zeros is near to nothing.

    Example:
        >>> cosine(np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]]), n=1).latent_FN.tolist()
        [[1], [0], [1]]
    """
    size_F = np.linalg.norm(rows_FD, axis=1, keepdims=True)
    unit_FD = (rows_FD / np.where(size_F > 0, size_F, 1)).astype(np.float32)
    return _nearest(len(unit_FD), n, lambda own: unit_FD[own] @ unit_FD.T)


def jaccard(found: Events, n: int = 5) -> Near:
    """The nearest latents by the tokens on which they fire."""
    fires = _matrix(found, np.ones(len(found.val_E), np.float32))
    fired_F = found.count_F.astype(np.float64)

    def score(own: slice, both: sparse.coo_array) -> np.ndarray:
        either = fired_F[own][both.row] + fired_F[both.col] - both.data
        return both.data / either

    return _co_active(fires, n, score)


def pearson(found: Events, n: int = 5) -> Near:
    """The nearest latents by the correlation of their codes over all tokens.

    r = (n Sxy - Sx Sy) / sqrt((n Sxx - Sx^2) (n Syy - Sy^2)). Only latents that fire together somewhere are
    compared: all others correlate below 0.
    """
    codes = _matrix(found, np.asarray(found.val_E, np.float64))
    total, sum_F = float(found.n_tokens), np.asarray(codes.sum(axis=1))
    spread_F = np.sqrt(np.maximum(total * np.asarray((codes * codes).sum(axis=1)) - sum_F**2, 0))
    spread_F = np.where(spread_F > 0, spread_F, np.inf)

    def score(own: slice, both: sparse.coo_array) -> np.ndarray:
        sums, spreads = sum_F[own][both.row], spread_F[own][both.row]
        return (total * both.data - sums * sum_F[both.col]) / (spreads * spread_F[both.col])

    return _co_active(codes, n, score)


def code_cosine(found: Events, a: int, b: int) -> float:
    """The cosine of the codes of two latents over all tokens; 0 where one never fires."""
    (place_a, val_a), (place_b, val_b) = found.of(a), found.of(b)
    _, at_a, at_b = np.intersect1d(place_a, place_b, assume_unique=True, return_indices=True)
    size = float(np.linalg.norm(val_a)) * float(np.linalg.norm(val_b))
    return float(val_a[at_a] @ val_b[at_b]) / size if size else 0.0


def _matrix(found: Events, val_E: np.ndarray) -> sparse.csr_array:
    shape = found.n_latents, found.tokens_ST.size
    return sparse.csr_array((val_E, np.asarray(found.place_E, np.int64), found.start_F), shape)


def _co_active(codes_FU: sparse.csr_array, n: int, score: Callable) -> Near:
    """The nearest latents by a score of the products of codes, of latents that fire together."""
    by_token, n_latents = codes_FU.T.tocsr(), len(codes_FU.indptr) - 1

    def scores(own: slice) -> np.ndarray:
        both = (codes_FU[own] @ by_token).tocoo()
        found = np.zeros((own.stop - own.start, n_latents), np.float32)
        found[both.row, both.col] = score(own, both)
        return found

    return _nearest(n_latents, n, scores)


def _nearest(n_latents: int, n: int, scores: Callable[[slice], np.ndarray]) -> Near:
    """The largest positive scores of each latent with others. scores: latents -> their scores with all."""
    latent_FN = np.full((n_latents, n), -1, np.int64)
    score_FN = np.zeros((n_latents, n), np.float32)
    each, width = max(1, _BLOCK // n_latents), min(n, n_latents)
    for start in range(0, n_latents, each):
        own = slice(start, min(start + each, n_latents))
        score_BF = scores(own)
        row_B = np.arange(len(score_BF))
        score_BF[row_B, row_B + start] = 0
        best = np.argpartition(-score_BF, width - 1, axis=1)[:, :width]
        best = np.take_along_axis(
            best, np.argsort(-np.take_along_axis(score_BF, best, 1), 1, kind="stable"), 1
        )
        found = np.take_along_axis(score_BF, best, 1)
        latent_FN[own, :width] = np.where(found > 0, best, -1)
        score_FN[own, :width] = np.maximum(found, 0)
    return Near(latent_FN, score_FN)
