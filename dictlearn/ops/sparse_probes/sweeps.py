"""Sparse probes of one label: which few features tell it, and how well, as the number of features varies.

heuristic      the features with the highest scores
telescopic     from many features down: each probe keeps the largest coefficients of the one before
pruned         a probe of k features, then again without the best one, and so on. A slow decline means many
               redundant carriers, a cliff one
monosemantic   a probe of each of the best features alone

Every probe is an L2 logistic regression in which both classes count equally. `optimal.py` has the probe whose
support is optimal.

Axes: B an example, F a feature, K a feature of a support.

Source: Gurnee et al. 2023 (arXiv:2305.01610).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from dictlearn.ops.sparse_probes import logistic, rankers

KS = (*range(1, 9), 10, 12, 16, 20, 32, 64, 128, 256)


class Sparse(NamedTuple):
    """A probe of few features."""

    support_K: Int[np.ndarray, " K"]
    w_K: Float[np.ndarray, " K"]
    b: float

    def logit(self, x_BF: Shaped[np.ndarray, "B F"]) -> Float[np.ndarray, " B"]:
        """The logits of examples."""
        return x_BF[:, self.support_K] @ self.w_K + self.b


def fitted(
    x_BF: Shaped[np.ndarray, "B F"],
    y_B: Bool[np.ndarray, " B"],
    chosen: Sequence[Int[np.ndarray, " _"]],
    c: float = 1.0,
) -> list[Sparse]:
    """The probe of each support, in one program.

    Args:
        x_BF: the examples.
        y_B: their labels.
        chosen: the features of each support.
        c: the weight of the loss, scikit-learn's C.

    Returns:
        The probes.
    """
    widest = max(map(len, chosen))
    padded = lambda each: np.pad(each, (0, widest - len(each)), constant_values=-1)
    support_QK = np.stack([padded(np.asarray(each, int)) for each in chosen])
    every = lambda a_B: np.tile(a_B, (len(chosen), 1))
    weight_QB = every(rankers.weights(y_B))
    probe = logistic.supports(x_BF, support_QK, every(y_B), weight_QB, c=c)
    rows = zip(chosen, probe.w_D, probe.b, strict=True)
    return [Sparse(np.asarray(each, int), w_K[: len(each)], float(b)) for each, w_K, b in rows]


def heuristic(
    x_BF: Shaped[np.ndarray, "B F"],
    y_B: Bool[np.ndarray, " B"],
    score_F: Float[np.ndarray, " F"],
    ks: Sequence[int] = KS,
    c: float = 1.0,
) -> list[Sparse]:
    """The probe of the k features with the highest scores, for each k.

    Args:
        x_BF, y_B, c: as in `fitted`.
        score_F: the score of each feature, of `rankers.rank`.
        ks: the numbers of features; those beyond F are left out.

    Returns:
        The probes, in the order of `ks`.
    """
    order_F = best(score_F)
    return fitted(x_BF, y_B, [order_F[:k] for k in ks if k <= len(order_F)], c)


def telescopic(
    x_BF: Shaped[np.ndarray, "B F"],
    y_B: Bool[np.ndarray, " B"],
    score_F: Float[np.ndarray, " F"],
    ks: Sequence[int] = KS,
    c: float = 1.0,
) -> list[Sparse]:
    """As `heuristic` for the largest k. Each smaller k keeps the features with the largest coefficients of the
    probe before, times the standard deviation of the feature.

    Args:
        x_BF, y_B, score_F, ks, c: as in `heuristic`.

    Returns:
        The probes, in the order of `ks`.
    """
    found: dict[int, Sparse] = {}
    left, deviation_F = best(score_F), x_BF.std(axis=0)
    for k in sorted({k for k in ks if k <= len(left)}, reverse=True):
        (found[k],) = fitted(x_BF, y_B, [left[:k]], c)
        size_K = np.abs(found[k].w_K) * deviation_F[found[k].support_K]
        left = found[k].support_K[best(size_K)]
    return [found[k] for k in ks if k in found]


def pruned(
    x_BF: Shaped[np.ndarray, "B F"],
    y_B: Bool[np.ndarray, " B"],
    score_F: Float[np.ndarray, " F"],
    k: int = 5,
    rounds: int = 10,
    c: float = 1.0,
) -> list[Sparse]:
    """The probe of the best k features, then of the best k without the first, and so on.

    Args:
        x_BF, y_B, score_F, c: as in `heuristic`.
        k: the number of features of each probe.
        rounds: the number of probes; fewer where the features run out.

    Returns:
        The probes; the first feature of each is the one that the next lacks.
    """
    order_F = best(score_F)
    rounds = min(rounds, len(order_F) - k + 1)
    return fitted(x_BF, y_B, [order_F[n : n + k] for n in range(rounds)], c)


def monosemantic(
    x_BF: Shaped[np.ndarray, "B F"],
    y_B: Bool[np.ndarray, " B"],
    score_F: Float[np.ndarray, " F"],
    n: int = 30,
    c: float = 1.0,
) -> list[Sparse]:
    """The probe of each of the best `n` features alone. Low precision at high recall is the mark of a
    polysemantic feature, the reverse of one that is too specific.

    Args:
        x_BF, y_B, score_F, c: as in `heuristic`.
        n: the number of features.

    Returns:
        The probes, the best feature first.
    """
    return fitted(x_BF, y_B, list(best(score_F)[:n, None]), c)


def best(score_F: Float[np.ndarray, " F"]) -> Int[np.ndarray, " F"]:
    """The features, those with the highest score first; the lower index first among equals."""
    return np.argsort(-score_F, kind="stable")
