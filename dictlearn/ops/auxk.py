"""AuxK: the dead latents reconstruct what the living ones leave over.

    ehat = TopK_{aux_k}(pre restricted to dead latents) W_dec        (no bias)
    loss = |sg(y - yhat) - ehat|^2 / sum-of-squares of sg(y - yhat) about its mean

Source: Gao et al. 2024 (arXiv:2406.04093), section A.2. Gradients reach W_enc, b_enc and W_dec of dead
latents only, through the same sparse rule as the main path. Fewer than `aux_k` dead: all of them compete.
We differ from the released code in masking living latents by minus infinity, not by zero, and in leaving
b_dec out of the target.

Up to one latent in FEW dead, and on one device, the dead ones are cut out and multiplied densely: five products
of their width cost less than aux_k rows a token.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.ops.axis_topk import row_top
from dictlearn.ops.branch import switch
from dictlearn.ops.firing import count
from dictlearn.ops.sparse import decode, given, select
from dictlearn.ops.topk import top_k
from dictlearn.ops.uniform import any_member
from dictlearn.sharding import is_split
from dictlearn.types import Codes

FEW = 8


def reconstruct_residual(
    x_BD: Float[Array, "B D"],
    pre_BF: Float[Array, "B F"],
    codes: Codes,
    dead_F: Bool[Array, " F"],
    W_enc_FD: Float[Array, "F D"],
    b_enc_F: Float[Array, " F"],
    W_dec_FD: Float[Array, "F E"],
    aux_k: int,
) -> Float[Array, "B E"]:
    """`ehat`. x_BD: the encoder's input (`b_dec` already subtracted); pre_BF: its pre-activations;
    latents active in `codes` do not count as dead. Zero, and skipped, where no latent is dead."""
    dead_F = dead_F & (count(codes, dead_F.shape[0]) == 0)

    n, few = dead_F.shape[0], dead_F.shape[0] // FEW

    def none(pre_BF, dead_F, x_BD, W_enc_FD, b_enc_F, W_dec_FD):
        dtype = jnp.result_type(x_BD, W_enc_FD, W_dec_FD)
        return jnp.zeros((x_BD.shape[0], W_dec_FD.shape[1]), dtype)

    def among_few(pre_BF, dead_F, x_BD, W_enc_FD, b_enc_F, W_dec_FD):
        (dead_G,) = jnp.nonzero(dead_F, size=few, fill_value=n)
        rows = lambda a: jnp.take(a, dead_G, axis=0, mode="fill", fill_value=0)
        pre_BG = jnp.take(pre_BF, dead_G, axis=1, mode="fill", fill_value=-jnp.inf)
        if aux_k < few:
            pre_BG = jnp.where(row_top(jax.nn.relu(pre_BG), aux_k), pre_BG, -jnp.inf)
        return jax.nn.relu(given(pre_BG, x_BD, rows(W_enc_FD), rows(b_enc_F))) @ rows(W_dec_FD)

    def among_many(pre_BF, dead_F, x_BD, W_enc_FD, b_enc_F, W_dec_FD):
        val_BK, idx_BK = top_k(pre_BF, aux_k, dead_F)
        val_BK = select(val_BK, idx_BK, x_BD, W_enc_FD, b_enc_F)
        return decode(jax.nn.relu(val_BK), idx_BK, W_dec_FD)

    bounds, forms = (0, few), (none, among_few, among_many)
    if is_split():
        bounds, forms = (0,), (none, among_many)
    n_dead = dead_F.sum()
    form = sum(any_member(n_dead > bound).astype(jnp.int32) for bound in bounds)
    fixed = lax.stop_gradient(pre_BF), dead_F
    return switch(form, forms, fixed, x_BD, W_enc_FD, b_enc_F, W_dec_FD)


def loss(residual_BD: Float[Array, "B D"], ehat_BD: Float[Array, "B D"]) -> Float[Array, " B"]:
    """Per token, normalised so that its mean over the batch is 1 for `ehat` at the residual's mean;
    zero where `ehat` is zero throughout (no latent is dead)."""
    residual_BD = lax.stop_gradient(residual_BD)
    spread = jnp.mean(jnp.sum((residual_BD - residual_BD.mean(0)) ** 2, -1))
    error_B = jnp.sum((residual_BD - ehat_BD) ** 2, -1)
    on = jnp.any(ehat_BD != 0) & (spread > 0)
    return jnp.where(on, error_B / jnp.where(spread > 0, spread, 1), 0.0)
