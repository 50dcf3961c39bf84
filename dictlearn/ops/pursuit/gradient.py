"""Gradient pursuit: every step moves all values found so far along the gradient, with the optimal step size.

    j = argmax <r, d_j>      S <- S + j      g = <r, D_S>      c = g D_S      a = <r, c> / |c|^2
    v <- v + a g             r = x - v D_S

A step costs the scores (gram.py) and two reads of K rows (three if nonnegative); no linear system is
solved.

Source: Blumensath & Davies 2008, "Gradient pursuits"; the nonnegative form, v <- max(v + a g, 0), is the
inference-time optimisation of Smith 2024 and Engels et al. 2024.

Differs: S keeps entries that became zero, which may return (as in dictionary_learning; the code of Engels
et al. drops them).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dictlearn.ops.pursuit import gram
from dictlearn.ops.pursuit.rounds import Limits, best, limits, put, repeat, wide
from dictlearn.ops.sparse.rows import rows_dot, rows_sum
from dictlearn.types import Scalar


def gradient(
    x_BD: Float[Array, "B D"],
    W_FD: Float[Array, "F D"],
    k_max: int,
    *,
    k=None,
    tol: Scalar = 0.0,
    absolute: bool = False,
    nonnegative: bool = False,
    mask_F: Bool[Array, " F"] | None = None,
) -> tuple[Float[Array, "B K"], Int[Array, "B K"], Float[Array, "B F"]]:
    """(values, indices, scores of the first step), without gradient, after at most `k_max` steps. An atom
    that is selected again takes no second entry, so a token may have fewer than k_max entries.

    W_FD: unit rows. k, tol, absolute, mask_F: as in `matching.pursue`. nonnegative: values are clipped at
    zero, and a token's pursuit ends where no score is positive.
    """
    x_BD, W_FD = lax.stop_gradient((wide(x_BD), wide(W_FD)))
    pre_BF = x_BD @ W_FD.T

    def search(x_BD, pre_BF, k_B, gram_FF=None):
        def step(t, state, r_BD, live_B, scores_BF):
            val_BK, idx_BK, in_BK = state
            top_B1, new_B1 = best(scores_BF, 1, absolute, mask_F)
            if nonnegative:
                live_B &= top_B1[:, 0] > 0
            fresh_B = live_B & ~((idx_BK == new_B1) & in_BK).any(1)
            idx_BK = put(idx_BK, t, new_B1[:, 0], fresh_B)
            in_BK = put(in_BK, t, fresh_B, fresh_B)
            g_BK = rows_dot(r_BD, idx_BK, W_FD) * (in_BK & live_B[:, None])
            c_BD = rows_sum(g_BK, idx_BK, W_FD)
            square_B = jnp.sum(c_BD**2, 1)
            a_B1 = (jnp.sum(r_BD * c_BD, 1) / jnp.where(square_B > 0, square_B, 1))[:, None]
            if nonnegative:
                val_BK = jax.nn.relu(val_BK + a_B1 * g_BK)
                return (val_BK, idx_BK, in_BK), x_BD - rows_sum(val_BK, idx_BK, W_FD), live_B
            return (val_BK + a_B1 * g_BK, idx_BK, in_BK), r_BD - a_B1 * c_BD, live_B

        shape = (len(x_BD), k_max)
        empty = jnp.zeros(shape, x_BD.dtype), jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool)
        scores = gram.refitted(pre_BF, W_FD, gram_FF)
        return repeat(step, scores, empty, x_BD, pre_BF, Limits(k_max, k_B, tol))[:2]

    arrays = x_BD, pre_BF, limits(x_BD, k_max, k, tol).k_B
    return *gram.either(search, arrays, W_FD, rounds=k_max, rows=k_max * (k_max + 1) // 2), pre_BF
