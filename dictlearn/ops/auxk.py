"""AuxK: the dead latents reconstruct the residual of the other latents.

    ehat = ReLU(TopK_{aux_k}(pre restricted to dead latents)) W_dec        (no bias)
    loss = |sg(y - yhat) - ehat|^2 / sum-of-squares of sg(y - yhat) about its mean

Gradients reach W_enc, b_enc and W_dec of dead latents only, through the same sparse rule as the main
path. If fewer than `aux_k` latents are dead, all of them are used.

On one device, where at most one latent in 8 is dead, the dead latents are gathered and multiplied densely, in
arrays of the smallest width of FEW that holds them. Five products of that width cost less than aux_k rows for
each token.

The gradient of a few latents should not cost an array of all. `reconstruct_residual` therefore returns the
weights, and all other readers use the returned ones. The backward pass adds AuxK's part to their gradient in
place (`control_flow.added`).

Rectified, as published, only dead latents whose pre-activations reach above zero learn, and these become fewer.
`rectified=False` keeps the values below zero too, as SAELens does: then every dead latent learns.

The loss is a mean over tokens, so some of them estimate it, at their share of the cost: `sampled` takes them.
The gradient is the same on average.

Source: Gao et al. 2024 (arXiv:2406.04093), section A.2; SAELens 6 (without the rectification).

Differs: the released code masks latents that are not dead by zero, ours by minus infinity; b_dec is not
part of the target.
"""

from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Shaped

from dictlearn.ops.control_flow import added, any_member, switch
from dictlearn.ops.firing import count
from dictlearn.ops.sparse.coding import decode, select
from dictlearn.ops.sparse.rows import bins, rows_add, rows_dot, rows_sum
from dictlearn.ops.topk.axis import row_top
from dictlearn.ops.topk.exact import top_k
from dictlearn.sharding import is_split
from dictlearn.types import Codes

FEW = (64, 8)
"""Where at most one latent in so many is dead, arrays of that width hold the dead latents."""


def reconstruct_residual(
    x_BD: Float[Array, "B D"],
    pre_BF: Float[Array, "B F"],
    codes: Codes,
    dead_F: Bool[Array, " F"],
    W_enc_FD: Float[Array, "F D"],
    b_enc_F: Float[Array, " F"],
    W_dec_FE: Float[Array, "F E"],
    aux_k: int,
    rectified: bool,
) -> tuple[Float[Array, "B E"], tuple]:
    """`ehat`, and `(W_enc, b_enc, W_dec)` for all other readers.

    x_BD: the encoder's input, with `b_dec` already subtracted. pre_BF: its pre-activations. rectified:
    whether values below zero are dropped. Latents that are active in `codes` do not count as dead. ehat is
    zero, and its computation is skipped, where no latent is dead.
    """
    dead_F = dead_F & (count(codes, dead_F.shape[0]) == 0)
    arrays = lax.stop_gradient(pre_BF), dead_F, x_BD, W_enc_FD, b_enc_F, W_dec_FE
    floor = 0.0 if rectified else -jnp.inf
    if is_split():
        return _over_shards(aux_k, floor, *arrays), arrays[3:]
    ehat_BE, *weights = cast(tuple, _custom_vjp(aux_k, floor, *arrays))
    return ehat_BE, tuple(weights)


def _over_shards(aux_k, floor, pre_BF, dead_F, *moving):
    def none(pre_BF, dead_F, x_BD, W_enc_FD, b_enc_F, W_dec_FE):
        return jnp.zeros((len(x_BD), W_dec_FE.shape[1]), jnp.result_type(pre_BF, W_dec_FE))

    def among_many(pre_BF, dead_F, x_BD, W_enc_FD, b_enc_F, W_dec_FE):
        top_BK, idx_BK = top_k(pre_BF, aux_k, dead_F)
        val_BK = select(top_BK, idx_BK, x_BD, W_enc_FD, b_enc_F)
        return decode(jnp.where(top_BK > floor, val_BK, 0), idx_BK, W_dec_FE)

    form = any_member(dead_F.sum() > 0).astype(jnp.int32)
    return switch(form, (none, among_many), (pre_BF, dead_F), *moving)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _custom_vjp(aux_k, floor, pre_BF, dead_F, x_BD, W_enc_FD, b_enc_F, W_dec_FE):
    return _forward(aux_k, floor, pre_BF, dead_F, x_BD, W_enc_FD, b_enc_F, W_dec_FE)[0]


def _forward(aux_k, floor, pre_BF, dead_F, x_BD, W_enc_FD, b_enc_F, W_dec_FE):
    widths, n_dead = _widths(len(dead_F)), dead_F.sum()
    widest = max(widths, default=0)
    (dead_G,) = jnp.nonzero(dead_F, size=widest, fill_value=len(dead_F))
    form = sum(any_member(n_dead > bound).astype(jnp.int32) for bound in (0, *widths))
    no_ehat = jnp.zeros((len(x_BD), W_dec_FE.shape[1]), jnp.result_type(pre_BF, W_dec_FE))
    no_f = jnp.zeros((len(x_BD), widest), pre_BF.dtype)
    no_entries = (
        jnp.zeros((len(x_BD), aux_k), pre_BF.dtype),
        jnp.zeros((len(x_BD), aux_k), jnp.int32),
    )

    def among_few(width, pre_BF):
        few_G = dead_G[:width]
        pre_BG = jnp.take(pre_BF, few_G, axis=1, mode="fill", fill_value=-jnp.inf)
        kept_BG = pre_BG > floor
        if aux_k < width:
            kept_BG &= row_top(_above_least(pre_BG, kept_BG), aux_k)
        f_BG = jnp.where(kept_BG, pre_BG, 0)
        wide_BG = jnp.pad(f_BG, ((0, 0), (0, widest - width)))
        return f_BG @ _rows(W_dec_FE, few_G), wide_BG, no_entries

    def among_many(pre_BF):
        val_BK, idx_BK = top_k(pre_BF, aux_k, dead_F)
        val_BK = jnp.where(val_BK > floor, val_BK, 0)
        return rows_sum(val_BK, idx_BK, W_dec_FE), no_f, (val_BK, idx_BK)

    none = lambda pre_BF: (no_ehat, no_f, no_entries)
    forms = none, *(partial(among_few, width) for width in widths), among_many
    ehat_BE, f_BG, entries = lax.switch(form, forms, pre_BF)
    weights = W_enc_FD, b_enc_F, W_dec_FE
    return (ehat_BE, *weights), (form, dead_G, f_BG, entries, x_BD, W_enc_FD, W_dec_FE)


def _backward(aux_k, floor, saved, bars):
    form, dead_G, f_BG, (val_BK, idx_BK), x_BD, W_enc_FD, W_dec_FE = saved
    g_BE, *totals = bars
    n, widths = len(W_enc_FD), _widths(len(W_enc_FD))

    def few_bar(f_BG, g_BE):
        return jnp.where(f_BG != 0, g_BE @ _rows(W_dec_FE, dead_G[: f_BG.shape[1]]).T, 0)

    def many_bar(val_BK, g_BE):
        return jnp.where(val_BK != 0, rows_dot(g_BE, idx_BK, W_dec_FE), 0)

    def add_few(width, totals, f_BG, val_BK, g):
        f = f_BG[:, :width]
        g_BG, few_G = few_bar(f, g), dead_G[:width]
        parts = g_BG.T @ x_BD, g_BG.sum(0), f.T @ g
        put = lambda total, part: total.at[few_G].add(part.astype(total.dtype), mode="drop")
        return [put(*each) for each in zip(totals, parts, strict=True)]

    def add_many(totals, f_BG, val, g):
        g_BK = many_bar(val, g)
        parts = rows_add(g_BK, idx_BK, x_BD, n), bins(g_BK, idx_BK, n)
        parts = *parts, rows_add(val, idx_BK, g, n)
        return [total + part for total, part in zip(totals, parts, strict=True)]

    adds = *(partial(add_few, width) for width in widths), add_many
    totals = added(form, adds, totals, f_BG, val_BK, g_BE)
    few_x_bar = lambda width: few_bar(f_BG[:, :width], g_BE) @ _rows(W_enc_FD, dead_G[:width])
    x_bars = (
        lambda: jnp.zeros_like(x_BD),
        *(partial(few_x_bar, width) for width in widths),
        lambda: rows_sum(many_bar(val_BK, g_BE), idx_BK, W_enc_FD),
    )
    return None, None, lax.switch(form, x_bars), *totals


_custom_vjp.defvjp(_forward, _backward)


def _widths(n_latents):
    """The widths, ascending, of the arrays that hold few dead latents."""
    return tuple(n_latents // share for share in FEW if n_latents >= share)


def _above_least(pre_BG, kept_BG):
    """Scores in the order of the kept entries, all positive, as `row_top` needs them; zero for the others."""
    least_B1 = jnp.min(jnp.where(kept_BG, pre_BG, jnp.inf), -1, keepdims=True)
    tiny = jnp.finfo(pre_BG.dtype).tiny
    return jnp.where(kept_BG, jnp.maximum(pre_BG - least_B1, tiny), 0)


def _rows(W_FD, dead_G):
    return jnp.take(W_FD, dead_G, axis=0, mode="fill", fill_value=0)


def sampled(rows_BX: Shaped[Array, "B X"], every: int) -> Shaped[Array, "S X"]:
    """About one in `every` of the rows: S = ceil(B / every), as evenly as B allows."""
    return _sample(rows_BX, -(-len(rows_BX) // every))


def _sample(rows_BX, n_rows: int):
    return rows_BX[:: -(-len(rows_BX) // n_rows)]


def loss(residual_BD: Float[Array, "B D"], ehat_SD: Float[Array, "S D"]) -> Float[Array, " S"]:
    """The loss of each of the tokens that `sampled` takes, normalised so that its mean is 1 where `ehat` is the
    mean of their residual. It is zero where `ehat` is zero everywhere (no latent is dead)."""
    residual_SD = lax.stop_gradient(_sample(residual_BD, len(ehat_SD)))
    spread = jnp.mean(jnp.sum((residual_SD - residual_SD.mean(0)) ** 2, -1))
    error_S = jnp.sum((residual_SD - ehat_SD) ** 2, -1)
    on = jnp.any(ehat_SD != 0) & (spread > 0)
    return jnp.where(on, error_S / jnp.where(spread > 0, spread, 1), 0.0)
