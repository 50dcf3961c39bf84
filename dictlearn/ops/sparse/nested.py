"""Sparse decoding by groups of latents: the sum of each group, in one pass over the entries.

    y_gb = sum over entries of token b whose latent is in group g of val_bk W[idx_bk]

Group g holds the latents from width g - 1 up to width g. Every entry belongs to one group, so all sums
together cost the rows of one decode. The gradients equal the gradients of the dense form (tests/ops).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dictlearn.ops.sparse import forms, rows


def decode_parts(
    val_BK: Float[Array, "B K"],
    idx_BK: Int[Array, "B K"],
    W_FD: Float[Array, "F D"],
    widths: tuple[int, ...],
    n_used=None,
) -> Float[Array, "G B D"]:
    """The sums of all groups. widths: ascending, the last one F. n_used: the largest number of entries that
    any token uses (the others are zero), None for all."""
    group_BK = jnp.sum(idx_BK[:, :, None] >= jnp.asarray(widths), axis=-1, dtype=jnp.int32)
    if n_used is None:
        n_used = jnp.int32(idx_BK.shape[1])
    return _decode(len(widths), val_BK, idx_BK, group_BK, W_FD, n_used)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _decode(n_groups, val_BK, idx_BK, group_BK, W_FD, n_used):
    def local(val, idx, W, group, n_used):
        val, idx = rows.owned(val, idx, len(W))
        zero = jnp.zeros((n_groups, len(val), W.shape[1]), jnp.result_type(val, W))

        def add(out, _, at, v, i, g):
            return out.at[g, _tokens(at)].add(v[:, None] * W[i], unique_indices=True)

        return rows.sum_over("model", forms.loop(add, zero, (val.T, idx.T, group.T), n_used))

    specs = (rows.TOKENS, rows.TOKENS, rows.ROWS, rows.TOKENS)
    split = rows.split(local, specs, rows.PARTS, n_used)
    return split(val_BK, idx_BK, W_FD, group_BK)


def _forward(n_groups, val_BK, idx_BK, group_BK, W_FD, n_used):
    out = _decode(n_groups, val_BK, idx_BK, group_BK, W_FD, n_used)
    return out, (val_BK, idx_BK, group_BK, W_FD, n_used)


def _backward(n_groups, saved, g_GBD):
    val_BK, idx_BK, group_BK, W_FD, n_used = saved
    specs = rows.PARTS, rows.TOKENS, rows.ROWS, rows.TOKENS

    def dots(g, idx, W, group, n_used):
        mine, idx = rows.owned(jnp.ones(idx.shape, g.dtype), idx, len(W))
        zero = jnp.zeros(idx.T.shape, jnp.result_type(g, W))

        def put(out, k, at, i, part):
            return at.put(out, k, jnp.sum(g[part, _tokens(at)] * W[i], axis=-1))

        found = forms.loop(put, zero, (idx.T, group.T), n_used)
        return rows.sum_over("model", found.T * mine)

    def sums(g, idx, W, group, val, n_used):
        val, idx = rows.owned(val, idx, len(W))
        add = lambda out, _, at, v, i, part: out.at[i].add(v[:, None] * g[part, _tokens(at)])
        zero = jnp.zeros(W.shape, jnp.result_type(val, g))
        return rows.sum_over("data", forms.loop(add, zero, (val.T, idx.T, group.T), n_used))

    val_bar_BK = rows.split(dots, specs, rows.TOKENS, n_used)(g_GBD, idx_BK, W_FD, group_BK)
    into = rows.split(sums, (*specs, rows.TOKENS), rows.ROWS, n_used)
    return val_bar_BK, None, None, into(g_GBD, idx_BK, W_FD, group_BK, val_BK), None


_decode.defvjp(_forward, _backward)


def _tokens(at: forms.At):
    return at.first + jnp.arange(at.n_tokens)
