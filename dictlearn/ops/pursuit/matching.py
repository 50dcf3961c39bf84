"""Matching pursuit: codes are found one atom (or one block of atoms) at a time, from the residual of the
earlier ones.

    matching      j = argmax <r, d_j>         v = <r, d_j> / |d_j|^2       r <- r - v d_j
    blocks        the same with the `width` best atoms at once and their least-squares v

orthogonal.py and gradient.py have the pursuits that change earlier values. The scores are the only `[B,
F]` array; atoms are read row by row, so no array is `[B, K, D]`. Residuals are in float32 or wider. Where
it is cheaper (gram.py), scores are updated instead of recomputed, which changes them only by rounding.
Indices have no gradient; `follow` gives the values their gradient, through all residuals.

Source: Mallat & Zhang 1993; Donhauser et al. 2024 (blocks).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dictlearn.ops.pursuit import gram
from dictlearn.ops.pursuit.rounds import Limits, best, limits, repeat, wide
from dictlearn.ops.sparse import coding
from dictlearn.ops.sparse.rows import rows_dot, rows_sum
from dictlearn.types import Scalar


def pursue(
    x_BD: Float[Array, "B D"],
    W_FD: Float[Array, "F D"],
    k_max: int,
    *,
    width: int = 1,
    k=None,
    tol: Scalar = 0.0,
    absolute: bool = False,
    nonnegative: bool = False,
    mask_F: Bool[Array, " F"] | None = None,
) -> tuple[Float[Array, "B K"], Int[Array, "B K"], Float[Array, "B F"]]:
    """(values, indices, scores of the first round), without gradient. There are `k_max / width` rounds, each of
    which selects the `width` atoms of largest `<r, d>` (of largest magnitude, if `absolute`) among the atoms of
    `mask_F`.

    k: values from this entry on are zero; a number, or a number for each token `[B]`; may be traced; None
    for k_max. tol: a token's pursuit ends once `|r| <= tol |x|`; may be traced. nonnegative: it ends
    where no score is positive. An atom may be selected more than once: see `merge`. W_FD: any rows for
    width 1, unit rows for more. Raises ValueError if width does not divide k_max, or for non-negative
    blocks.
    """
    if k_max % width:
        raise ValueError(f"{width=} must divide {k_max=}: every round selects `width` atoms.")
    if nonnegative and width > 1:
        raise ValueError(f"{width=} must be 1 where values are nonnegative.")
    x_BD, W_FD = lax.stop_gradient((wide(x_BD), wide(W_FD)))
    pre_BF = x_BD @ W_FD.T
    entries = limits(x_BD, k_max, k, tol)
    place_L = jnp.arange(width)

    def search(x_BD, pre_BF, k_B, gram_FF=None):
        def step(t, state, r_BD, live_B, scores_BF):
            top_BL, idx_BL = best(scores_BF, width, absolute, mask_F)
            if nonnegative:
                live_B &= top_BL[:, 0] > 0
            on_BL = live_B[:, None] & (t * width + place_L < k_B[:, None])
            val_BL = solve(_gram(idx_BL, W_FD), rows_dot(r_BD, idx_BL, W_FD)) * on_BL
            found = tuple(
                lax.dynamic_update_slice_in_dim(all_BK, new_BL, t * width, axis=1)
                for all_BK, new_BL in zip(state[0], (val_BL, idx_BL), strict=True)
            )
            last = () if gram_FF is None else (scores_BF, val_BL, idx_BL)
            return (found, last), r_BD - rows_sum(val_BL, idx_BL, W_FD), live_B

        def scores(t, state, r_BD):
            if gram_FF is None:
                return r_BD @ W_FD.T
            scores_BF, val_BL, idx_BL = state[1]
            return scores_BF - rows_sum(val_BL, idx_BL, gram_FF)

        shape = (len(x_BD), k_max)
        empty = (jnp.zeros(shape, x_BD.dtype), jnp.zeros(shape, jnp.int32)), ()
        rounds = Limits(k_max // width, jnp.ceil(k_B / width), tol)
        return repeat(step, scores, empty, x_BD, pre_BF, rounds)[0]

    arrays = x_BD, pre_BF, entries.k_B
    return *gram.either(search, arrays, W_FD, rounds=k_max, rows=k_max), pre_BF


def follow(
    x_BD: Float[Array, "B D"], idx_BK: Int[Array, "B K"], W_FD: Float[Array, "F D"]
) -> Float[Array, "B K"]:
    """The values of matching pursuit on unit rows when it selects `idx_BK` in that order, with their
    gradient with respect to x and W."""
    narrow, x_BD, W_FD = x_BD.dtype, wide(x_BD), wide(W_FD)
    none_F = jnp.zeros(len(W_FD), W_FD.dtype)

    def step(r_BD, idx_B):
        idx_B1 = idx_B[:, None]
        found_B1 = lax.stop_gradient(rows_dot(r_BD, idx_B1, W_FD))
        val_B1 = coding.select(found_B1, idx_B1, r_BD, W_FD, none_F)
        return r_BD - coding.decode(val_B1, idx_B1, W_FD), val_B1[:, 0]

    _, val_KB = lax.scan(jax.checkpoint(step), x_BD, idx_BK.T)
    return val_KB.T.astype(narrow)


def merge(val_BK: Float[Array, "B K"], idx_BK: Int[Array, "B K"]) -> Float[Array, "B K"]:
    """`val_BK` in which the values of the same latent are summed in its first entry, and are zero in its
    other entries."""
    same_BKK = idx_BK[:, :, None] == idx_BK[:, None, :]
    first_BK = ~jnp.tril(same_BKK, -1).any(-1)
    return jnp.sum(same_BKK * val_BK[:, None, :], -1) * first_BK


def _gram(idx_BL, W_FD):
    """`<d_i, d_j>` of every two atoms of a token, `[B, L, L]`."""
    one_B1 = jnp.ones((len(idx_BL), 1), W_FD.dtype)
    row = lambda idx_B: rows_dot(rows_sum(one_B1, idx_B[:, None], W_FD), idx_BL, W_FD)
    return lax.map(row, idx_BL.T).swapaxes(0, 1)


def solve(gram_BKK: Float[Array, "B K K"], dot_BK: Float[Array, "B K"]) -> Float[Array, "B K"]:
    """Least-squares values, with a ridge of 8 roundings on the diagonal for atoms that are nearly equal."""
    square_BK = jnp.diagonal(gram_BKK, axis1=1, axis2=2)
    square_BK = jnp.where(square_BK > 0, square_BK, 1)
    if dot_BK.shape[1] == 1:
        return dot_BK / square_BK
    ridge = 1 + 8 * jnp.finfo(dot_BK.dtype).eps
    eye_KK = jnp.eye(dot_BK.shape[1], dtype=dot_BK.dtype)
    lower = jnp.linalg.cholesky(jnp.where(eye_KK > 0, ridge * square_BK[:, None], gram_BKK))
    return jax.scipy.linalg.cho_solve((lower, True), dot_BK[:, :, None])[:, :, 0]
