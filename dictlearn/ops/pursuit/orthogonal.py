"""Orthogonal matching pursuit: after each step, the values of all selected atoms are the least-squares
values.

    j = argmax |<r, d_j>| / |d_j|      S <- S + j      v = argmin_v |x - v D_S|^2      r = x - v D_S

Dividing by |d_j| selects the atom that leaves the smallest residual along its own line. `M` is the
inverse of the Cholesky factor of the Gram matrix of the selected atoms, extended by one row each step;
with g = D_S d_j,

    u = -M^T M g      p = d_j + u D_S      c = <r, p> / |p|^2      v <- v + c (u, 1)      r <- r - c p

The last step is followed by one refinement of v with its own residual. A step costs the scores (gram.py)
and two reads of K rows. With `nonnegative`, v >= 0 by active sets (Nguyen et al. 2019, NNOMP; the inner
problem by block pivoting, Kim & Park 2011), and only atoms of positive product are selected. Values that
became zero stay in S and may return.

Source: Pati et al. 1993.

Differs: a token's pursuit ends where no unselected atom has a product with the residual, or where the
best atom is a linear combination of the selected ones.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dictlearn.ops.pursuit import gram
from dictlearn.ops.pursuit.nonnegative import least_squares
from dictlearn.ops.pursuit.rounds import Limits, best, limits, put, repeat, wide
from dictlearn.ops.sparse.rows import rows_dot, rows_sum
from dictlearn.types import Scalar


def orthogonal(
    x_BD: Float[Array, "B D"],
    W_FD: Float[Array, "F D"],
    k_max: int,
    *,
    k=None,
    tol: Scalar = 0.0,
    absolute: bool = True,
    nonnegative: bool = False,
    mask_F: Bool[Array, " F"] | None = None,
) -> tuple[Float[Array, "B K"], Int[Array, "B K"], Float[Array, "B F"]]:
    """(values, indices, scores of the first step), without gradient, after at most `k_max` steps; entries
    after a token's last step are zero.

    k, tol, mask_F: as in `matching.pursue`. absolute: False selects the largest `<r, d>`, whose value may
    still become negative. nonnegative: no value is negative; `absolute` is then ignored.
    """
    x_BD, W_FD = lax.stop_gradient((wide(x_BD), wide(W_FD)))
    norm_F = jnp.maximum(jnp.linalg.norm(W_FD, axis=1), jnp.finfo(W_FD.dtype).tiny)
    pre_BF, place_K = x_BD @ W_FD.T, jnp.arange(k_max)
    add = _add_nonnegative if nonnegative else _add

    def search(x_BD, pre_BF, k_B, gram_FF=None):
        def step(t, state, r_BD, live_B, scores_BF):
            val_BK, idx_BK, solved = state
            top_B1, new_B1 = best(scores_BF / norm_F, 1, absolute and not nonnegative, mask_F)
            taken_B = ((idx_BK == new_B1) & (place_K < t)).any(1)
            live_B &= ~taken_B & (top_B1[:, 0] > (0 if nonnegative or absolute else -jnp.inf))
            idx_BK = put(idx_BK, t, new_B1[:, 0], live_B)
            val_BK, solved, r_BD, live_B = add(t, val_BK, idx_BK, solved, x_BD, r_BD, live_B, W_FD)
            return (val_BK, idx_BK, solved), r_BD, live_B

        shape = (len(x_BD), k_max)
        none_BK, none_BKK = jnp.zeros(shape, x_BD.dtype), jnp.zeros((*shape, k_max), x_BD.dtype)
        solved = (none_BKK, none_BK, none_BK > 0) if nonnegative else none_BKK
        empty = none_BK, jnp.zeros(shape, jnp.int32), solved
        scores = gram.refitted(pre_BF, W_FD, gram_FF)
        bounds = Limits(k_max, k_B, tol)
        val_BK, idx_BK, solved = repeat(step, scores, empty, x_BD, pre_BF, bounds)
        if not nonnegative:
            left_BK = rows_dot(x_BD - rows_sum(val_BK, idx_BK, W_FD), idx_BK, W_FD)
            val_BK = val_BK + _normal(solved, left_BK)
        return val_BK, idx_BK

    arrays = x_BD, pre_BF, limits(x_BD, k_max, k, tol).k_B
    return *gram.either(search, arrays, W_FD, rounds=k_max, rows=k_max * (k_max + 1) // 2), pre_BF


def _add(t, val_BK, idx_BK, M_BKK, x_BD, r_BD, live_B, W_FD):
    """The step above, with entry t of `idx_BK` just selected."""
    new_B1 = lax.dynamic_slice_in_dim(idx_BK, t, 1, axis=1)
    atom_BD = rows_sum(jnp.ones(new_B1.shape, x_BD.dtype), new_B1, W_FD)
    u_BK = -_normal(M_BKK, rows_dot(atom_BD, idx_BK, W_FD))
    p_BD = atom_BD + rows_sum(u_BK, idx_BK, W_FD)
    square_B, least = jnp.sum(p_BD**2, 1), 100 * jnp.finfo(x_BD.dtype).eps
    live_B &= square_B > least * jnp.sum(atom_BD**2, 1)
    square_B = jnp.where(live_B, square_B, 1)
    c_B1 = (live_B * jnp.sum(r_BD * p_BD, 1) / square_B)[:, None]
    row_BK = put(u_BK, t, jnp.ones_like(square_B), live_B)
    M_BKK = put(M_BKK, t, row_BK / jnp.sqrt(square_B)[:, None], live_B)
    return val_BK + c_B1 * row_BK, M_BKK, r_BD - c_B1 * p_BD, live_B


def _add_nonnegative(t, val_BK, idx_BK, solved, x_BD, r_BD, live_B, W_FD):
    gram_BKK, dot_BK, active_BK = solved
    new_B1 = lax.dynamic_slice_in_dim(idx_BK, t, 1, axis=1)
    atom_BD = rows_sum(jnp.ones(new_B1.shape, x_BD.dtype), new_B1, W_FD)
    within_BK = jnp.arange(idx_BK.shape[1]) <= t
    row_BK = rows_dot(atom_BD, idx_BK, W_FD) * within_BK
    gram_BKK = put(gram_BKK, t, row_BK, live_B)
    gram_BKK = put(gram_BKK.swapaxes(1, 2), t, row_BK, live_B)
    dot_BK = put(dot_BK, t, jnp.sum(x_BD * atom_BD, 1), live_B)
    active_BK = put(active_BK, t, live_B, live_B)
    new_BK, active_BK = least_squares(gram_BKK, dot_BK, active_BK)
    val_BK = jnp.where(live_B[:, None], new_BK, val_BK)
    r_BD = jnp.where(live_B[:, None], x_BD - rows_sum(val_BK, idx_BK, W_FD), r_BD)
    return val_BK, (gram_BKK, dot_BK, active_BK), r_BD, live_B


def _normal(M_BKK, a_BK):
    """`M^T M a`: the product of the inverse Gram matrix with a."""
    return jnp.einsum("bkl,bk->bl", M_BKK, jnp.einsum("bkl,bl->bk", M_BKK, a_BK))
