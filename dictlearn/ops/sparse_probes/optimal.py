"""Optimal sparse probing: the k features whose linear support vector machine has the smallest loss, proved.

    min over supports s of c(s)       c(s): the optimum of hinge.py on the features of s

c is convex in s in [0, 1]^F, with gradient -gamma/2 (sum_i a_i y_i x_ij)^2 at the dual optimum a. So every
support that is tried gives a linear lower bound of c on all supports, a cut. The support of least bound is
found by mixed-integer programming (HiGHS), tried, and cut, until the bound meets the best value. Cuts hold for
every k, so a sweep over k keeps them.

Axes: B an example, F a feature, K a feature of a support.

Source: Bertsimas, Pauphilet & Van Parys 2021; Gurnee et al. 2023 (arXiv:2305.01610).

UNSURE about the constant of the penalty: gamma = 1 / sqrt(B) here.
"""

import functools
import itertools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jaxtyping import Bool, Int, Shaped

from dictlearn.ops.sparse_probes import hinge, rankers
from dictlearn.ops.sparse_probes.sweeps import best

_AT_ONCE = 2**22
"""Numbers that `exhaustive` gathers at once."""


class Optimal(NamedTuple):
    """support_K: the features in ascending order. value: c. bound: no support of this size has a smaller c."""

    support_K: Int[np.ndarray, " K"]
    value: float
    bound: float


class _Cut(NamedTuple):
    """c at a support, and its gradient."""

    support_K: np.ndarray
    value: float
    slope_F: np.ndarray

    @property
    def offset(self) -> float:
        """The cut at the empty support."""
        return self.value - self.slope_F[self.support_K].sum()


def optimal(
    x_BF: Shaped[np.ndarray, "B F"],
    y_B: Bool[np.ndarray, " B"],
    ks: Sequence[int],
    *,
    n_candidates: int = 50,
    seconds: float = 60.0,
    tolerance: float = 1e-4,
) -> list[Optimal]:
    """The optimal support for each k, from the largest down.

    Args:
        x_BF, y_B: the examples and their labels; both labels must occur.
        ks: the numbers of features, at most 8 is advised.
        n_candidates: only so many features are considered, those with the largest difference of means.
        seconds: the time for each k; afterwards the best support so far is returned with its bound.
        tolerance: the relative gap between value and bound at which a support counts as optimal.

    Returns:
        An Optimal for each k, in the order of `ks`.

    Raises:
        ValueError: for a k below 1 or beyond the candidates.
    """
    candidates = np.sort(best(rankers.mean_difference(x_BF, y_B))[:n_candidates])
    if bad := [k for k in ks if not 1 <= k <= len(candidates)]:
        raise ValueError(f"k={bad[0]} must be in 1..{len(candidates)}, the number of candidates.")
    found = _swept(x_BF[:, candidates], y_B, ks, seconds, tolerance)
    return [found[k]._replace(support_K=candidates[found[k].support_K]) for k in ks]


def _swept(x_BF, y_B, ks: Sequence[int], seconds: float, tolerance: float) -> dict[int, Optimal]:
    """The optimum for each k. A k starts where the best cut so far falls most steeply."""
    cut, cuts, found = _cutter(x_BF, y_B), [], {}
    for k in sorted(set(ks), reverse=True):
        score_F = rankers.mean_difference(x_BF, y_B)
        first_F = -min(cuts, key=lambda one: one.value).slope_F if cuts else score_F
        cuts.append(cut(best(first_F)[:k]))
        found[k] = _closed(cuts, cut, k, seconds, tolerance)
    return found


def _closed(cuts: list[_Cut], cut, k: int, seconds: float, tolerance: float) -> Optimal:
    """Adds cuts until the bound of k features meets the best value."""
    ends = time.monotonic() + seconds
    while True:
        known = [one for one in cuts if len(one.support_K) == k]
        top = min(known, key=lambda one: one.value)
        left = ends - time.monotonic()
        bound, support_K = _lowest(cuts, k, max(left, 0.1))
        done = top.value - bound <= tolerance * top.value or left <= 0
        if done or any(np.array_equal(one.support_K, support_K) for one in known):
            return Optimal(np.sort(top.support_K), top.value, min(bound, top.value))
        cuts.append(cut(support_K))


def _lowest(cuts: Sequence[_Cut], k: int, seconds: float) -> tuple[float, np.ndarray]:
    """(a bound of c on k features, the support at which all cuts are lowest)."""
    from scipy import optimize

    slopes = np.array([one.slope_F for one in cuts])
    n = slopes.shape[1]
    offsets: Any = np.array([one.offset for one in cuts])
    most: Any = np.append(np.ones(n), np.inf)
    above = optimize.LinearConstraint(np.c_[-slopes, np.ones(len(cuts))], lb=offsets)
    size = optimize.LinearConstraint(np.append(np.ones(n), 0.0)[None], k, k)
    result = optimize.milp(
        np.append(np.zeros(n), 1.0),
        integrality=np.append(np.ones(n), 0),
        bounds=optimize.Bounds(0, most),
        constraints=[above, size],
        options={"time_limit": seconds},
    )
    if result.x is None:
        return 0.0, cuts[-1].support_K
    return float(result.mip_dual_bound or 0.0), np.sort(best(result.x[:n])[:k])


def exhaustive(x_BF: Shaped[np.ndarray, "B F"], y_B: Bool[np.ndarray, " B"], k: int) -> Optimal:
    """The optimal support of k features by trying all.

    Args:
        x_BF: the examples.
        y_B: their labels; both must occur.
        k: the number of features.

    Returns:
        An Optimal whose bound is its value.
    """
    chosen_QK = np.array(list(itertools.combinations(range(x_BF.shape[1]), k)))
    at_once = max(1, _AT_ONCE // (len(x_BF) * k))
    with jax.enable_x64(True):
        found_Q = np.asarray(_values(at_once, *_given(x_BF, y_B), chosen_QK))
    at = int(found_Q.argmin())
    return Optimal(chosen_QK[at], float(found_Q[at]), float(found_Q[at]))


def _given(x_BF: np.ndarray, y_B: np.ndarray):
    """(examples, labels, bounds of the dual variables) in float64."""
    return np.float64(x_BF), y_B, rankers.weights(y_B)


def _cutter(x_BF: np.ndarray, y_B: np.ndarray):
    """The function from a support to its cut."""
    given = _given(x_BF, y_B)

    def cut(support_K: np.ndarray) -> _Cut:
        with jax.enable_x64(True):
            value, slope_F = _cut(*given, support_K)
            return _Cut(np.sort(support_K), float(value), np.asarray(slope_F))

    return cut


@jax.jit
def _cut(x_BF, y_B, bound_B, support_K):
    gamma = _gamma(x_BF)
    found = hinge.solve(x_BF[:, support_K], y_B, bound_B, gamma)
    signed_B = jax.numpy.where(y_B, found.a_B, -found.a_B)
    return found.value, -gamma / 2 * (signed_B @ x_BF) ** 2


@functools.partial(jax.jit, static_argnums=0)
def _values(at_once, x_BF, y_B, bound_B, chosen_QK):
    one = lambda each_K: hinge.solve(x_BF[:, each_K], y_B, bound_B, _gamma(x_BF)).value
    return lax.map(one, chosen_QK, batch_size=at_once)


def _gamma(x_BF) -> float:
    return x_BF.shape[0] ** -0.5
