"""Pursuits: codes found one atom (or a few) at a time, each explaining what those before it left over.

    matching      j = argmax <r, d_j>         v = <r, d_j> / |d_j|^2       r <- r - v d_j
    blocks        the same with the `width` best atoms at once and their least-squares v
    orthogonal    after every step all values so far are the least-squares ones

Source: Mallat & Zhang 1993; Pati et al. 1993 (orthogonal); Donhauser et al. 2024 (blocks). Scores are the one
`[B, F]` array; atoms are read row by row, so that nothing is `[B, K, D]`. Residuals are float32 at least.
Indices never have a gradient. `follow` gives the values of matching pursuit theirs, through all residuals; the
values of the other two have none, as at a least-squares solution the loss does not depend on them.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from dictlearn.ops import sparse
from dictlearn.ops.rows import rows_dot, rows_sum
from dictlearn.ops.topk import top_k


def pursue(
    x_BD: Float[Array, "B D"],
    W_FD: Float[Array, "F D"],
    k: int,
    *,
    width: int = 1,
    kept=None,
    absolute: bool = False,
    mask_F=None,
) -> tuple[Float[Array, "B K"], Int[Array, "B K"], Float[Array, "B F"]]:
    """(values, indices, scores of the first round), without gradient: `k / width` rounds, each of the `width`
    atoms of largest `<r, d>` (of largest magnitude, if `absolute`) among those that `mask_F` leaves.

    kept: values from this entry on are zero; may be traced. An atom may be found more than once: see `merge`.
    W_FD: any rows for width 1 and unit rows for more. Raises ValueError if width does not divide k."""
    if k % width:
        raise ValueError(f"{width=} must divide {k=}: every round finds `width` entries.")
    x_BD, W_FD = lax.stop_gradient((_wide(x_BD), _wide(W_FD)))
    live_K = jnp.arange(k) < (k if kept is None else kept)

    def pick(r_BD, scores_BF, live_L):
        _, idx_BL = top_k(jnp.abs(scores_BF) if absolute else scores_BF, width, mask_F)
        val_BL = _solve(_gram(idx_BL, W_FD), rows_dot(r_BD, idx_BL, W_FD)) * live_L
        return r_BD - rows_sum(val_BL, idx_BL, W_FD), (val_BL, idx_BL)

    live_JL = live_K.reshape(-1, width)
    pre_BF = x_BD @ W_FD.T
    r_BD, first = pick(x_BD, pre_BF, live_JL[0])
    _, rest = lax.scan(lambda r, live: pick(r, r @ W_FD.T, live), r_BD, live_JL[1:])
    entries = lambda one, more: jnp.concatenate([one[None], more]).swapaxes(0, 1).reshape(-1, k)
    return entries(first[0], rest[0]), entries(first[1], rest[1]), pre_BF


def follow(
    x_BD: Float[Array, "B D"], idx_BK: Int[Array, "B K"], W_FD: Float[Array, "F D"]
) -> Float[Array, "B K"]:
    """The values of matching pursuit on unit rows when it visits `idx_BK` in that order, with their gradient
    with respect to x and W."""
    narrow, x_BD, W_FD = x_BD.dtype, _wide(x_BD), _wide(W_FD)
    none_F = jnp.zeros(len(W_FD), W_FD.dtype)

    def step(r_BD, idx_B):
        idx_B1 = idx_B[:, None]
        found_B1 = lax.stop_gradient(rows_dot(r_BD, idx_B1, W_FD))
        val_B1 = sparse.select(found_B1, idx_B1, r_BD, W_FD, none_F)
        return r_BD - sparse.decode(val_B1, idx_B1, W_FD), val_B1[:, 0]

    _, val_KB = lax.scan(jax.checkpoint(step), x_BD, idx_BK.T)
    return val_KB.T.astype(narrow)


def orthogonal(
    x_BD: Float[Array, "B D"], W_FD: Float[Array, "F D"], k: int
) -> tuple[Float[Array, "B K"], Int[Array, "B K"], Float[Array, "B F"]]:
    """(values, indices, scores of the first step) of `k` steps, without gradient. Every step takes the atom
    not taken yet of largest `|<r, d>| / |d|`, the one that leaves least over."""
    x_BD, W_FD = lax.stop_gradient((_wide(x_BD), _wide(W_FD)))
    norm_F = jnp.maximum(jnp.linalg.norm(W_FD, axis=1), jnp.finfo(W_FD.dtype).tiny)
    place_K = jnp.arange(k)

    def step(carry, t):
        val_BK, idx_BK, gram_BKK, dot_BK = carry
        r_BD = x_BD - rows_sum(val_BK, idx_BK, W_FD)
        _, near_BK = top_k(jnp.abs(r_BD @ W_FD.T) / norm_F, k)
        taken_BKK = (near_BK[:, :, None] == idx_BK[:, None, :]) & (place_K < t)
        best_B1 = jnp.argmin(taken_BKK.any(-1), axis=1, keepdims=True)
        new_B1 = jnp.take_along_axis(near_BK, best_B1, axis=1)
        idx_BK = jnp.where(place_K == t, new_B1, idx_BK)
        atom_BD = rows_sum(jnp.ones(new_B1.shape, x_BD.dtype), new_B1, W_FD)
        row_BK = jnp.where(place_K <= t, rows_dot(atom_BD, idx_BK, W_FD), 0)
        gram_BKK = jnp.where((place_K == t)[:, None], row_BK[:, None, :], gram_BKK)
        gram_BKK = jnp.where(place_K == t, row_BK[:, :, None], gram_BKK)
        dot_BK = jnp.where(place_K == t, jnp.sum(x_BD * atom_BD, 1, keepdims=True), dot_BK)
        return (_solve(gram_BKK, dot_BK), idx_BK, gram_BKK, dot_BK), None

    zeros_BK = jnp.zeros((len(x_BD), k), x_BD.dtype)
    eye_BKK = jnp.broadcast_to(jnp.eye(k, dtype=x_BD.dtype), (len(x_BD), k, k))
    empty = zeros_BK, jnp.zeros((len(x_BD), k), jnp.int32), eye_BKK, zeros_BK
    (val_BK, idx_BK, _, _), _ = lax.scan(step, empty, place_K)
    return val_BK, idx_BK, x_BD @ W_FD.T


def merge(val_BK: Float[Array, "B K"], idx_BK: Int[Array, "B K"]) -> Float[Array, "B K"]:
    """`val_BK` with the values of entries of the same latent summed in the first of them, zero in the
    others."""
    same_BKK = idx_BK[:, :, None] == idx_BK[:, None, :]
    first_BK = ~jnp.tril(same_BKK, -1).any(-1)
    return jnp.sum(same_BKK * val_BK[:, None, :], -1) * first_BK


def _gram(idx_BL, W_FD):
    """`<d_i, d_j>` of every two atoms of a token, `[B, L, L]`."""
    one_B1 = jnp.ones((len(idx_BL), 1), W_FD.dtype)
    row = lambda idx_B: rows_dot(rows_sum(one_B1, idx_B[:, None], W_FD), idx_BL, W_FD)
    return lax.map(row, idx_BL.T).swapaxes(0, 1)


def _solve(gram_BKK, dot_BK):
    """Least-squares values, with a ridge of 8 roundings on the diagonal for atoms that are alike."""
    square_BK = jnp.diagonal(gram_BKK, axis1=1, axis2=2)
    square_BK = jnp.where(square_BK > 0, square_BK, 1)
    if dot_BK.shape[1] == 1:
        return dot_BK / square_BK
    ridge = 1 + 8 * jnp.finfo(dot_BK.dtype).eps
    eye_KK = jnp.eye(dot_BK.shape[1], dtype=dot_BK.dtype)
    lower = jnp.linalg.cholesky(jnp.where(eye_KK > 0, ridge * square_BK[:, None], gram_BKK))
    return jax.scipy.linalg.cho_solve((lower, True), dot_BK[:, :, None])[:, :, 0]


def _wide(a):
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))
