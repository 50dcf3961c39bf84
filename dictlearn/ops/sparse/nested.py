"""Sparse decoding by groups of latents: each group's own sum, in one pass over the entries.

    y_gb = sum over entries of token b whose latent is in group g of val_bk W[idx_bk]

Group g holds the latents from width g - 1 up to width g. Every entry belongs to one group, so that all sums
cost the rows of one decode, not of one a group. The gradients equal those of the dense form (tests/ops).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from dictlearn.ops.sparse import forms, rows


def decode_parts(
    val_BK: Float[Array, "B K"],
    idx_BK: Int[Array, "B K"],
    W_FD: Float[Array, "F D"],
    widths: tuple[int, ...],
    length=None,
) -> Float[Array, "G B D"]:
    """widths: ascending, the last all F latents. length: entries that any token uses, the rest being zero;
    None for all."""
    group_BK = jnp.sum(idx_BK[:, :, None] >= jnp.asarray(widths), axis=-1, dtype=jnp.int32)
    if length is None:
        length = jnp.int32(idx_BK.shape[1])
    return _decode(len(widths), val_BK, idx_BK, group_BK, W_FD, length)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _decode(n_groups, val_BK, idx_BK, group_BK, W_FD, length):
    def local(val, idx, W, group, length):
        val, idx = rows.owned(val, idx, len(W))
        token = jnp.arange(len(val))
        zero = jnp.zeros((n_groups, len(val), W.shape[1]), jnp.result_type(val, W))
        add = lambda out, v, i, g: out.at[g, token].add(v[:, None] * W[i], unique_indices=True)
        return rows.sum_over("model", forms.loop(add, zero, (val.T, idx.T, group.T), length))

    specs = (rows.TOKENS, rows.TOKENS, rows.ROWS, rows.TOKENS)
    split = rows.split(local, specs, rows.PARTS, length)
    return split(val_BK, idx_BK, W_FD, group_BK)


def _forward(n_groups, val_BK, idx_BK, group_BK, W_FD, length):
    out = _decode(n_groups, val_BK, idx_BK, group_BK, W_FD, length)
    return out, (val_BK, idx_BK, group_BK, W_FD, length)


def _backward(n_groups, saved, g_GBD):
    val_BK, idx_BK, group_BK, W_FD, length = saved
    specs = rows.PARTS, rows.TOKENS, rows.ROWS, rows.TOKENS

    def dots(g, idx, W, group, length):
        mine, idx = rows.owned(jnp.ones(idx.shape, g.dtype), idx, len(W))
        token, zero = jnp.arange(len(idx)), jnp.zeros(idx.T.shape, jnp.result_type(g, W))

        def put(out, t, i, part):
            dot = jnp.sum(g[part, token] * W[i], axis=-1)
            return lax.dynamic_update_index_in_dim(out, dot, t, 0)

        xs = jnp.arange(len(zero)), idx.T, group.T
        return rows.sum_over("model", forms.loop(put, zero, xs, length).T * mine)

    def sums(g, idx, W, group, val, length):
        val, idx = rows.owned(val, idx, len(W))
        token = jnp.arange(len(val))
        add = lambda out, v, i, part: out.at[i].add(v[:, None] * g[part, token])
        zero = jnp.zeros(W.shape, jnp.result_type(val, g))
        return rows.sum_over("data", forms.loop(add, zero, (val.T, idx.T, group.T), length))

    val_bar_BK = rows.split(dots, specs, rows.TOKENS, length)(g_GBD, idx_BK, W_FD, group_BK)
    into = rows.split(sums, (*specs, rows.TOKENS), rows.ROWS, length)
    return val_bar_BK, None, None, into(g_GBD, idx_BK, W_FD, group_BK, val_BK), None


_decode.defvjp(_forward, _backward)
