"""Plain forms of `ops.rows`' operations on the rows of one device; `ops.backend` says who takes which.

loop: a gather (or scatter) of `[B, D]` an entry, nothing larger. unrolled: UNROLL of these in one body, which
XLA makes one GPU kernel that holds its sum in registers. gathered: all rows in one gather, an array
`[B, K, D]` where XLA does not fuse it away; scattered: all products in one scatter; both in blocks of tokens
of at most BLOCK elements. matmul: codes scattered into `[B, F]` and one matrix product, more arithmetic for
fewer bytes and fewer roundings; 16-bit operands only, whose products are exact in one pass, and up to DENSE
latents an entry, about where a TPU's compiler counts a product as long as the gather (docs/benchmarks.md);
beyond these, gathered or scattered.
All agree to rounding (tests/ops/test_forms.py), and all leave out the entries from `length` on.
"""

import jax
import jax.numpy as jnp
from jax import lax

from dictlearn.ops.kernels import kernel

UNROLL = 16
BLOCK = 2**26
DENSE = 2048


def sum_loop(val_BK, idx_BK, W_FD, length=None, *, unroll=1):
    zero_BD = jnp.zeros((val_BK.shape[0], W_FD.shape[1]), jnp.result_type(val_BK, W_FD))
    add = lambda out_BD, val_B, idx_B: out_BD + val_B[:, None] * W_FD[idx_B]
    return loop(add, zero_BD, (val_BK.T, idx_BK.T), length, unroll)


def sum_unrolled(val_BK, idx_BK, W_FD, length=None):
    return sum_loop(val_BK, idx_BK, W_FD, length, unroll=UNROLL)


def sum_gathered(val_BK, idx_BK, W_FD, length=None):
    gathered = lambda val_K, idx_K: jnp.sum(val_K[:, None] * W_FD[idx_K], axis=0)
    return _by_token(gathered, W_FD.shape[1], _within(val_BK, length), idx_BK)


def sum_matmul(val_BK, idx_BK, W_FD, length=None):
    if not _dense(val_BK, W_FD, idx_BK, len(W_FD)):
        return sum_gathered(val_BK, idx_BK, W_FD, length)
    return _codes(_within(val_BK, length), idx_BK, len(W_FD)) @ W_FD


def dot_loop(g_BD, idx_BK, W_FD, length=None):
    dot = lambda idx_B: jnp.sum(g_BD * W_FD[idx_B], axis=-1)
    if length is None:
        return lax.scan(lambda _, idx_B: (None, dot(idx_B)), None, idx_BK.T)[1].T
    zero_KB = jnp.zeros(idx_BK.T.shape, jnp.result_type(g_BD, W_FD))
    put = lambda out_KB, k, idx_B: lax.dynamic_update_index_in_dim(out_KB, dot(idx_B), k, 0)
    return loop(put, zero_KB, (jnp.arange(len(zero_KB)), idx_BK.T), length).T


def dot_gathered(g_BD, idx_BK, W_FD, length=None):
    gathered = lambda g_D, idx_K: jnp.sum(g_D * W_FD[idx_K], axis=-1)
    return _within(_by_token(gathered, W_FD.shape[1], g_BD, idx_BK), length)


def dot_matmul(g_BD, idx_BK, W_FD, length=None):
    if not _dense(g_BD, W_FD, idx_BK, len(W_FD)):
        return dot_gathered(g_BD, idx_BK, W_FD, length)
    return _within(jnp.take_along_axis(g_BD @ W_FD.T, idx_BK, axis=1), length)


def add_loop(val_BK, idx_BK, g_BD, length=None, *, n_latents):
    zero_FD = jnp.zeros((n_latents, g_BD.shape[1]), jnp.result_type(val_BK, g_BD))
    add = lambda out_FD, val_B, idx_B: out_FD.at[idx_B].add(val_B[:, None] * g_BD)
    return loop(add, zero_FD, (val_BK.T, idx_BK.T), length)


def add_scattered(val_BK, idx_BK, g_BD, length=None, *, n_latents):
    out_FD = jnp.zeros((n_latents, g_BD.shape[1]), jnp.result_type(val_BK, g_BD))
    val_BK = _within(val_BK, length)
    step = _block(idx_BK, g_BD.shape[1])
    for first in range(0, len(g_BD), step):
        val_bK, idx_bK, g_bD = (a[first : first + step] for a in (val_BK, idx_BK, g_BD))
        out_FD = out_FD.at[idx_bK].add(val_bK[:, :, None] * g_bD[:, None])
    return out_FD


def add_matmul(val_BK, idx_BK, g_BD, length=None, *, n_latents):
    if not _dense(val_BK, g_BD, idx_BK, n_latents):
        return add_scattered(val_BK, idx_BK, g_BD, length, n_latents=n_latents)
    return _codes(_within(val_BK, length), idx_BK, n_latents).T @ g_BD


def loop(step, start, xs, length, unroll=1):
    """`step(carry, *x)` for every x, or the first `length`."""
    if length is None:
        return lax.scan(lambda carry, x: (step(carry, *x), None), start, xs, unroll=unroll)[0]
    at = lambda t: [lax.dynamic_index_in_dim(x, t, keepdims=False) for x in xs]
    return lax.fori_loop(0, length, lambda t, carry: step(carry, *at(t)), start)


def _by_token(one, d, *arrays):
    """`one` of every token, all at once or a block at a time."""
    step = _block(arrays[1], d)
    if step >= len(arrays[0]):
        return jax.vmap(one)(*arrays)
    return lax.map(lambda token: one(*token), arrays, batch_size=step)


def _block(idx_BK, d):
    return max(1, BLOCK // (idx_BK.shape[1] * d))


def _within(x_BK, length):
    return x_BK if length is None else jnp.where(jnp.arange(x_BK.shape[1]) < length, x_BK, 0)


def _dense(a, b, idx_BK, n_latents):
    """Whether `matmul` is one: of 16-bit operands, and no more than DENSE latents an entry."""
    return a.dtype.itemsize == b.dtype.itemsize == 2 and n_latents <= DENSE * idx_BK.shape[1]


def _codes(val_BK, idx_BK, n_latents):
    token_B1 = jnp.arange(len(val_BK))[:, None]
    return jnp.zeros((len(val_BK), n_latents), val_BK.dtype).at[token_B1, idx_BK].add(val_BK)


SUM = {
    "loop": sum_loop,
    "unrolled": sum_unrolled,
    "gathered": sum_gathered,
    "matmul": sum_matmul,
    "kernel": kernel("rows", "rows_sum"),
}
DOT = {
    "loop": dot_loop,
    "gathered": dot_gathered,
    "matmul": dot_matmul,
    "kernel": kernel("rows", "rows_dot"),
}
ADD = {
    "loop": add_loop,
    "scattered": add_scattered,
    "matmul": add_matmul,
    "kernel": kernel("rows", "rows_add"),
}
