"""The dimensions of a tap with which each latent correlates most, from one pass over the activations.

    pearson = (n Sxf - Sx Sf) / sqrt((n Sxx - Sx^2) (n Sff - Sf^2))        cosine = Sxf / sqrt(Sxx Sff)

Sums over all tokens, in float64: f is a code, zeros included, and x a dimension of the activation.

Source: the correlated neurons of SAEDashboard 0.8.0.
Axes: N a dimension that is kept; the others as in `dictlearn.events.cache`.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from dictlearn.events.cache import Events
from dictlearn.events.rows import Rows
from dictlearn.streams._taps import side_by_side


class Neurons(NamedTuple):
    """The dimensions of each latent, the largest correlation first. A latent that never fires has zeros."""

    dimension_FN: np.ndarray
    pearson_FN: np.ndarray
    cosine_FN: np.ndarray

    def of(self, latent: int) -> list[tuple[int, float, float]]:
        """(dimension, correlation, cosine) of one latent; none for one that never fires."""
        if not self.pearson_FN[latent].any():
            return []
        columns = (self.dimension_FN[latent], self.pearson_FN[latent], self.cosine_FN[latent])
        return list(zip(*(column.tolist() for column in columns), strict=True))


def neurons(found: Events, rows: Rows, n: int = 3) -> Neurons:
    """The dimensions with which latents correlate most.

    Args:
        found: the events of the text, or of its first sequences.
        rows: the activations of the text.
        n: the number of dimensions.

    Returns:
        Neurons. Memory is that of a float64 matrix of latents and dimensions.
    """
    shape = found.n_latents, found.tokens_ST.size
    place_E, val_E = np.asarray(found.place_E, np.int64), np.asarray(found.val_E, np.float64)
    codes = sparse.csr_array((val_E, place_E, found.start_F), shape)
    total = float(found.n_tokens)
    both_FD, sum_D, square_D = _sums(codes.T.tocsr(), found, rows)
    sum_F = np.asarray(codes.sum(axis=1))
    square_F = np.asarray((codes * codes).sum(axis=1))
    spread_F, spread_D = _root(total * square_F - sum_F**2), _root(total * square_D - sum_D**2)
    pearson_FD = (total * both_FD - np.outer(sum_F, sum_D)) / np.outer(spread_F, spread_D)
    best_FN = np.argsort(-pearson_FD, axis=1, kind="stable")[:, :n]
    kept = lambda score_FD: np.take_along_axis(score_FD, best_FN, 1)
    cosine_FN = kept(both_FD) / (_root(square_F)[:, None] * _root(square_D)[best_FN])
    return Neurons(best_FN, kept(pearson_FD), cosine_FN)


def _sums(by_token: sparse.csr_array, found: Events, rows: Rows) -> tuple[np.ndarray, ...]:
    """(Sxf, Sx, Sxx) over the tokens of `found`."""
    both, one, square, seen = 0.0, 0.0, 0.0, 0
    for _, tensors, order_R in rows.read(range(rows.n_parts)):
        own_R = order_R[tensors["sequence_R"][order_R] < len(found.tokens_ST)]
        place_R = tensors["sequence_R"][own_R].astype(np.int64) * found.length
        place_R += tensors["position_R"][own_R]
        x_RD = np.asarray(side_by_side([tensors[tap][own_R] for tap in rows.tap]), np.float64)
        both = both + by_token[place_R].T @ x_RD
        one, square = one + x_RD.sum(0), square + (x_RD**2).sum(0)
        seen += len(own_R)
        if seen == found.n_tokens:
            break
    return np.asarray(both), np.asarray(one), np.asarray(square)


def _root(square: np.ndarray) -> np.ndarray:
    """The root; infinite where there is nothing to divide by, so that scores are 0 there."""
    return np.sqrt(np.where(square > 0, square, np.inf))
