"""The sparse decoder, its dot product and its transpose for NVIDIA GPUs, in Pallas (Triton).

These are forms of the operations of `ops.sparse.rows`, equal to the forms in `ops.sparse.forms`. They make no
`[B, K, D]` and no `[B, F]` array, write every output once, and sum in float32. A program owns a tile of the
output and reads the rows it needs, ENTRIES at a time and WIDTH columns wide.

The transpose sorts entries by latent (a stable sort, equal latents in the order of tokens). It sums the segment
of every latent in that order, so that two runs agree to the bit. Atomic additions, which XLA's scatter uses, do
not, and bfloat16 additions would round once for each token. Entries of value zero are dropped before the sort:
padding does not make a long segment at latent 0.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

ENTRIES = 8
WIDTH = 256


def rows_sum(val_BK, idx_BK, W_FD, n_used=None, *, interpret=False):
    """`out_b = sum_k val_bk W[idx_bk]` over the entries before `n_used`, `[B, D]`."""
    (n, k), (_, d) = val_BK.shape, W_FD.shape
    out = jax.ShapeDtypeStruct((n, d), jnp.result_type(val_BK, W_FD))
    width = _width(d)
    call = _call(partial(_sum, width=width), out, (n, pl.cdiv(d, width)), interpret)
    return call(_bound(n_used, k), val_BK, idx_BK, W_FD)


def rows_dot(g_BD, idx_BK, W_FD, n_used=None, *, interpret=False):
    """`out_bk = <g_b, W[idx_bk]>`, `[B, K]`, zero from entry `n_used` on."""
    n, k = idx_BK.shape
    out = jax.ShapeDtypeStruct((n, k), jnp.result_type(g_BD, W_FD))
    width = _width(g_BD.shape[1])
    call = _call(partial(_dot, width=width), out, (n, pl.cdiv(k, ENTRIES)), interpret)
    return call(_bound(n_used, k), g_BD, idx_BK, W_FD)


def rows_add(val_BK, idx_BK, g_BD, n_used=None, *, n_latents, interpret=False):
    """`out_f = sum over entries with idx_bk = f of val_bk g_b`, `[F, D]`."""
    (_, k), (_, d) = val_BK.shape, g_BD.shape
    used_BK = (val_BK != 0) & (jnp.arange(k) < _bound(n_used, k))
    latent_E = jnp.where(used_BK, idx_BK, n_latents).reshape(-1)
    entry_E = jnp.arange(latent_E.size, dtype=jnp.int32)
    latent_E, entry_E = lax.sort((latent_E, entry_E), num_keys=1, is_stable=True)
    edges = jnp.searchsorted(latent_E, jnp.arange(n_latents + 1, dtype=latent_E.dtype))
    out = jax.ShapeDtypeStruct((n_latents, d), jnp.result_type(val_BK, g_BD))
    width = _width(d)
    call = _call(partial(_add, width=width), out, (n_latents, pl.cdiv(d, width)), interpret)
    return call(edges.astype(jnp.int32), entry_E // k, val_BK.reshape(-1)[entry_E], g_BD)


def _sum(length_ref, val_ref, idx_ref, W_ref, out_ref, *, width):
    token, column_W, in_W = _tile(out_ref, width)

    def add(turn, sum_W):
        k_E = turn * ENTRIES + jnp.arange(ENTRIES)
        in_E = k_E < length_ref[0]
        val_E = plt.load(val_ref.at[token, k_E], mask=in_E, other=0)
        idx_E = plt.load(idx_ref.at[token, k_E], mask=in_E, other=0)
        return sum_W + _weighted(val_E, _rows(W_ref, idx_E, in_E, column_W, in_W), sum_W.dtype)

    turns = pl.cdiv(length_ref[0], ENTRIES)
    sum_W = lax.fori_loop(0, turns, add, jnp.zeros(width, _wide(out_ref.dtype)))
    plt.store(out_ref.at[token, column_W], sum_W.astype(out_ref.dtype), mask=in_W)


def _dot(length_ref, g_ref, idx_ref, W_ref, out_ref, *, width):
    token, k_E, in_E = _tile(out_ref, ENTRIES)
    used_E = k_E < length_ref[0]
    idx_E = plt.load(idx_ref.at[token, k_E], mask=in_E, other=0)

    def add(turn, sum_E):
        column_W = turn * width + jnp.arange(width)
        in_W = column_W < g_ref.shape[1]
        g_W = plt.load(g_ref.at[token, column_W], mask=in_W, other=0)
        rows_EW = _rows(W_ref, idx_E, used_E, column_W, in_W)
        return sum_E + jnp.sum(g_W.astype(sum_E.dtype) * rows_EW.astype(sum_E.dtype), axis=1)

    start = jnp.zeros(ENTRIES, _wide(out_ref.dtype))
    sum_E = lax.fori_loop(0, pl.cdiv(g_ref.shape[1], width), add, start)
    plt.store(out_ref.at[token, k_E], sum_E.astype(out_ref.dtype), mask=in_E)


def _add(edges_ref, token_ref, val_ref, g_ref, out_ref, *, width):
    latent, column_W, in_W = _tile(out_ref, width)
    first, end = edges_ref[latent], edges_ref[latent + 1]

    def add(turn, sum_W):
        entry_E = first + turn * ENTRIES + jnp.arange(ENTRIES)
        in_E = entry_E < end
        val_E = plt.load(val_ref.at[entry_E], mask=in_E, other=0)
        token_E = plt.load(token_ref.at[entry_E], mask=in_E, other=0)
        return sum_W + _weighted(val_E, _rows(g_ref, token_E, in_E, column_W, in_W), sum_W.dtype)

    turns = pl.cdiv(end - first, ENTRIES)
    sum_W = lax.fori_loop(0, turns, add, jnp.zeros(width, _wide(out_ref.dtype)))
    plt.store(out_ref.at[latent, column_W], sum_W.astype(out_ref.dtype), mask=in_W)


def _tile(out_ref, width):
    """(row, columns, which of these exist) of this program's tile of the output."""
    column_W = pl.program_id(1) * width + jnp.arange(width)
    return pl.program_id(0), column_W, column_W < out_ref.shape[1]


def _rows(ref, row_E, in_E, column_W, in_W):
    """`ref[row_E, column_W]`, zero outside."""
    at = ref.at[row_E[:, None], column_W[None, :]]
    return plt.load(at, mask=in_E[:, None] & in_W[None, :], other=0)


def _weighted(val_E, rows_EW, dtype):
    return jnp.sum(val_E[:, None].astype(dtype) * rows_EW.astype(dtype), axis=0)


def _wide(dtype):
    return jnp.promote_types(dtype, jnp.float32)


def _width(d):
    """The width of a block: a power of two."""
    return min(WIDTH, pl.next_power_of_2(d))


def _bound(n_used, k):
    return jnp.full(1, k if n_used is None else n_used, jnp.int32)


def _call(kernel, out, grid, interpret):
    params = plt.CompilerParams(num_warps=4)
    return pl.pallas_call(
        kernel, out_shape=out, grid=grid, compiler_params=params, interpret=interpret
    )
