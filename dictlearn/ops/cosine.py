"""Matching the atoms of two dictionaries by cosine similarity: nearest, one to one, one to many.

    nearest       j(i) = argmax_j <a_i, b_j>                    MMCS(A -> B) = mean_i <a_i, b_j(i)>
    one to one    the assignment pi that maximises sum_i <a_i, b_pi(i)>
    one to many   the matches of a_i are all b_j whose nearest atom is a_i, at cosine >= tau

Cosines are signed. MMCS is not symmetric, and grows with the size of the other side: `by_chance` gives
its value for random atoms.

Source: Sharkey et al. 2022 (mean max cosine similarity); Li et al. 2015, "Convergent learning" (one to
one by the Hungarian method, one to many), there by correlations of activations.

Differs: where the assignment would need more than EXACT rows a side, one to one keeps the pairs that are
mutual nearest neighbours, and reports it.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from dictlearn.ops.lengths import unit_rows

Array = jax.Array | np.ndarray

EXACT = 8192
_BLOCK = 4096


class Pairs(NamedTuple):
    """Matched rows of A and of B, their cosines, and whether the assignment is optimal."""

    a_P: np.ndarray
    b_P: np.ndarray
    cosine_P: np.ndarray
    exact: bool


@jax.jit
def nearest(
    a_FD: Float[Array, "F D"], b_GD: Float[Array, "G D"]
) -> tuple[Float[Array, " F"], Int[Array, " F"]]:
    """(largest cosine of each row of `a` with any row of `b`, index of that row; the first of equal ones); 0
    for a row of zeros. Rows are processed in blocks, so `[F, G]` is never held."""
    b_GD = unit_rows(b_GD)

    def one(row_D):
        cosine_G = b_GD @ row_D
        return cosine_G.max(), cosine_G.argmax()

    return jax.lax.map(one, unit_rows(a_FD), batch_size=min(_BLOCK, len(a_FD)))


def one_to_one(a_FD: Float[Array, "F D"], b_GD: Float[Array, "G D"]) -> Pairs:
    """As many pairs as the smaller side has rows, in the order of `a`; fewer where the result is not exact."""
    if max(len(a_FD), len(b_GD)) <= EXACT:
        cosine_FG = np.asarray(unit_rows(a_FD) @ unit_rows(b_GD).T)
        # SciPy takes half a second to import; only commands that match atoms wait for it.
        from scipy.optimize import linear_sum_assignment

        a_P, b_P = linear_sum_assignment(cosine_FG, maximize=True)
        return Pairs(a_P, b_P, cosine_FG[a_P, b_P], exact=True)
    cosine_F, to_F = map(np.asarray, nearest(a_FD, b_GD))
    back_F = np.asarray(nearest(b_GD, a_FD)[1])[to_F]
    a_P = np.flatnonzero(back_F == np.arange(len(to_F)))
    return Pairs(a_P, to_F[a_P], cosine_F[a_P], exact=False)


def one_to_many(
    a_FD: Float[Array, "F D"], b_GD: Float[Array, "G D"], threshold: float
) -> Int[np.ndarray, " F"]:
    """The number of rows of `b` whose nearest row is each row of `a`, at cosine >= threshold."""
    cosine_G, to_G = map(np.asarray, nearest(b_GD, a_FD))
    return np.bincount(to_G[cosine_G >= threshold], minlength=len(a_FD))


def by_chance(n: int, width: int) -> float:
    """The expected largest cosine of a row with `n` random rows of width `width`."""
    cosine = np.linspace(-1, 1, 20_001)
    from scipy.special import betainc

    tail = betainc(0.5, (width - 1) / 2, cosine**2) / 2
    below = 0.5 + np.sign(cosine) * tail
    return float(1 - np.trapezoid(below**n, cosine))
