"""Encoding and decoding with k active latents of each token, with gradients as sparse as the codes.

`select` does not choose. The caller selects `idx_BK` from pre-activations by any rule, without gradient, and
`select` returns their values with the gradient of `<x, W[idx]> + b[idx]`. TopK, AuxK and all other selections
therefore share one backward pass, and no `[B, F]` array is differentiated. Both rules equal `jax.grad` of the
dense form (tests/ops).
"""

import jax
from jaxtyping import Array, Float, Int

from dictlearn.ops.sparse.rows import bins, rows_add, rows_dot, rows_sum


@jax.custom_vjp
def decode(
    val_BK: Float[Array, "B K"],
    idx_BK: Int[Array, "B K"],
    W_dec_FD: Float[Array, "F D"],
    n_used=None,
) -> Float[Array, "B D"]:
    """`sum_k val_bk W_dec[idx_bk]`, without bias. n_used: the largest number of entries that any token uses
    (the others are zero), None for all."""
    return rows_sum(val_BK, idx_BK, W_dec_FD, n_used)


def _decode_fwd(val_BK, idx_BK, W_dec_FD, n_used=None):
    out = rows_sum(val_BK, idx_BK, W_dec_FD, n_used)
    return out, (val_BK, idx_BK, W_dec_FD, n_used)


def _decode_bwd(saved, g_BD):
    val_BK, idx_BK, W_dec_FD, n_used = saved
    return (
        rows_dot(g_BD, idx_BK, W_dec_FD, n_used),
        None,
        rows_add(val_BK, idx_BK, g_BD, W_dec_FD.shape[0], n_used),
        None,
    )


decode.defvjp(_decode_fwd, _decode_bwd)


@jax.custom_vjp
def select(
    val_BK: Float[Array, "B K"],
    idx_BK: Int[Array, "B K"],
    x_BD: Float[Array, "B D"],
    W_enc_FD: Float[Array, "F D"],
    b_enc_F: Float[Array, " F"],
    n_used=None,
) -> Float[Array, "B K"]:
    """`val_BK` itself, which must be the pre-activations `x W_enc^T + b_enc` at `idx_BK`; gradients reach x,
    W_enc and b_enc, but not the argument `val_BK`. n_used: the number of entries that may have a
    gradient."""
    return val_BK


def _select_fwd(val_BK, idx_BK, x_BD, W_enc_FD, b_enc_F, n_used=None):
    return val_BK, (idx_BK, x_BD, W_enc_FD, n_used)


def _select_bwd(saved, g_BK):
    idx_BK, x_BD, W_enc_FD, n_used = saved
    n_latents = W_enc_FD.shape[0]
    return (
        None,
        None,
        rows_sum(g_BK, idx_BK, W_enc_FD, n_used),
        rows_add(g_BK, idx_BK, x_BD, n_latents, n_used),
        bins(g_BK, idx_BK, n_latents),
        None,
    )


select.defvjp(_select_fwd, _select_bwd)


@jax.custom_vjp
def given(
    pre_BF: Float[Array, "B F"],
    x_BD: Float[Array, "B D"],
    W_FD: Float[Array, "F D"],
    b_F: Float[Array, " F"],
) -> Float[Array, "B F"]:
    """`pre_BF` itself, which must be `x W^T + b`, with the gradient of that expression."""
    return pre_BF


def _given_bwd(saved, g_BF):
    x_BD, W_FD = saved
    return None, g_BF @ W_FD, g_BF.T @ x_BD, g_BF.sum(0)


given.defvjp(lambda pre_BF, x_BD, W_FD, b_F: (pre_BF, (x_BD, W_FD)), _given_bwd)


@jax.custom_vjp
def shifted(
    b_F: Float[Array, " F"], W_FD: Float[Array, "F D"], shift_D: Float[Array, " D"]
) -> Float[Array, " F"]:
    """`b_F` itself, the bias of `(x - shift) W^T + b` where the shift has no gradient. The gradient of the
    shift is `-db W`: one vector product instead of one for each token."""
    return b_F


shifted.defvjp(lambda b_F, W_FD, shift_D: (b_F, W_FD), lambda W_FD, g_F: (g_F, None, -(g_F @ W_FD)))
