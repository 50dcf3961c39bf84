"""Plain JAX forms of the operations of `ops.sparse.rows` on one device; `ops.sparse.backend` chooses between
them.

loop: one gather (or scatter) of `[B, D]` for each entry, with no larger array; of a sum, TURN in one body, so
that a CPU reads and writes the output less often. unrolled: UNROLL in one body, which XLA compiles to one GPU
kernel that keeps its sum in registers. gathered: all rows in one gather, an array `[B, K, D]` where XLA does
not fuse it. scattered: all products in one scatter. Both work in blocks of tokens of at most BLOCK elements.
matmul: codes scattered into `[B, F]` and one matrix product, which costs more arithmetic for fewer bytes and
fewer roundings. It is used for up to DENSE latents for each entry: 2048 where numbers have two bytes, whose
products are exact in one pass, 256 where they have four, whose products take six. At about these numbers a
product takes a TPU as long as the gather (docs/benchmarks.md). Beyond them the form is gathered or scattered.

All forms agree to rounding (tests/ops/sparse/test_forms.py), and all ignore the entries from `n_used` on. Where
that is `[G]`, each of G equal groups of consecutive tokens has its own: only the form loop is shorter for it.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

_product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
TURN, UNROLL = 8, 16
BLOCK = 2**26
DENSE = {2: 2048, 4: 256}


def sum_loop(val_BK, idx_BK, W_FD, n_used=None, *, unroll=TURN):
    zero_BD = jnp.zeros((val_BK.shape[0], W_FD.shape[1]), jnp.result_type(val_BK, W_FD))
    add = lambda out_BD, _, at, val_T, idx_T: at.add(out_BD, val_T[:, None] * W_FD[idx_T])
    return loop(add, zero_BD, (val_BK.T, idx_BK.T), n_used, unroll)


def sum_unrolled(val_BK, idx_BK, W_FD, n_used=None):
    most = None if n_used is None else jnp.max(n_used)
    return sum_loop(_within(val_BK, n_used), idx_BK, W_FD, most, unroll=UNROLL)


def sum_gathered(val_BK, idx_BK, W_FD, n_used=None):
    gathered = lambda val_K, idx_K: jnp.sum(val_K[:, None] * W_FD[idx_K], axis=0)
    return _by_token(gathered, W_FD.shape[1], _within(val_BK, n_used), idx_BK)


def sum_matmul(val_BK, idx_BK, W_FD, n_used=None):
    if not _dense(val_BK, W_FD, idx_BK, len(W_FD)):
        return sum_gathered(val_BK, idx_BK, W_FD, n_used)
    return _product(_codes(_within(val_BK, n_used), idx_BK, len(W_FD)), W_FD)


def dot_loop(g_BD, idx_BK, W_FD, n_used=None):
    dot = lambda g_TD, idx_T: jnp.sum(g_TD * W_FD[idx_T], axis=-1)
    if n_used is None:
        return lax.scan(lambda _, idx_B: (None, dot(g_BD, idx_B)), None, idx_BK.T)[1].T
    zero_KB = jnp.zeros(idx_BK.T.shape, jnp.result_type(g_BD, W_FD))
    put = lambda out_KB, k, at, idx_T: at.put(out_KB, k, dot(at.of(g_BD), idx_T))
    return loop(put, zero_KB, (idx_BK.T,), n_used).T


def dot_gathered(g_BD, idx_BK, W_FD, n_used=None):
    gathered = lambda g_D, idx_K: jnp.sum(g_D * W_FD[idx_K], axis=-1)
    return _within(_by_token(gathered, W_FD.shape[1], g_BD, idx_BK), n_used)


def dot_matmul(g_BD, idx_BK, W_FD, n_used=None):
    if not _dense(g_BD, W_FD, idx_BK, len(W_FD)):
        return dot_gathered(g_BD, idx_BK, W_FD, n_used)
    return _within(jnp.take_along_axis(_product(g_BD, W_FD.T), idx_BK, axis=1), n_used)


def add_loop(val_BK, idx_BK, g_BD, n_used=None, *, n_latents):
    # Always 0, but XLA cannot know: an array of zeros that two loops share is copied for each.
    zero = jnp.any(val_BK > jnp.inf).astype(jnp.result_type(val_BK, g_BD))
    zero_FD = jnp.broadcast_to(zero, (n_latents, g_BD.shape[1]))
    add = lambda out_FD, _, at, val_T, idx_T: out_FD.at[idx_T].add(val_T[:, None] * at.of(g_BD))
    return loop(add, zero_FD, (val_BK.T, idx_BK.T), n_used)


def add_scattered(val_BK, idx_BK, g_BD, n_used=None, *, n_latents):
    out_FD = jnp.zeros((n_latents, g_BD.shape[1]), jnp.result_type(val_BK, g_BD))
    val_BK = _within(val_BK, n_used)
    step = _block(idx_BK, g_BD.shape[1])
    for first in range(0, len(g_BD), step):
        val_bK, idx_bK, g_bD = (a[first : first + step] for a in (val_BK, idx_BK, g_BD))
        out_FD = out_FD.at[idx_bK].add(val_bK[:, :, None] * g_bD[:, None])
    return out_FD


def add_matmul(val_BK, idx_BK, g_BD, n_used=None, *, n_latents):
    if not _dense(val_BK, g_BD, idx_BK, n_latents):
        return add_scattered(val_BK, idx_BK, g_BD, n_used, n_latents=n_latents)
    return _product(_codes(_within(val_BK, n_used), idx_BK, n_latents).T, g_BD)


class At(NamedTuple):
    """T consecutive tokens of B, from `first` on."""

    first: Int[Array, ""] | int
    n_tokens: int

    def of(self, a_BX):
        """Their rows."""
        return lax.dynamic_slice_in_dim(a_BX, self.first, self.n_tokens)

    def add(self, out_BX, part_TX):
        """`out_BX` with their part added."""
        return lax.dynamic_update_slice_in_dim(out_BX, self.of(out_BX) + part_TX, self.first, 0)

    def put(self, out_KB, k, part_T):
        """`out_KB` with their part in row `k`."""
        return lax.dynamic_update_slice(out_KB, part_T[None].astype(out_KB.dtype), (k, self.first))


def loop(step, start, xs_KB, n_used, unroll=1):
    """`step(carry, k, at, *x_T)` for the K entries, or the first `n_used`, of all B tokens; where `n_used` is
    `[G]`, for the first `n_used[g]` of each of G equal groups of consecutive tokens."""
    n_entries, n_tokens = xs_KB[0].shape
    if n_used is None:
        whole = lambda carry, x: (step(carry, x[0], At(0, n_tokens), *x[1]), None)
        return lax.scan(
            whole, start, (jnp.arange(n_entries, dtype=jnp.int32), xs_KB), unroll=unroll
        )[0]
    used_G = jnp.reshape(n_used, -1).astype(jnp.int32)
    end_G, size = jnp.cumsum(used_G, dtype=jnp.int32), n_tokens // len(used_G)

    def turn(number, carry):
        g = jnp.sum(number >= end_G, dtype=jnp.int32)
        k, at = number - (end_G - used_G)[g], At(g * size, size)
        cut = lambda x_KB: lax.dynamic_slice(x_KB, (k, at.first), (1, size))[0]
        return step(carry, k, at, *map(cut, xs_KB))

    return lax.fori_loop(jnp.int32(0), end_G[-1], turn, start)


def _by_token(one, d, *arrays):
    """`one` for every token, all at once or one block at a time."""
    step = _block(arrays[1], d)
    if step >= len(arrays[0]):
        return jax.vmap(one)(*arrays)
    return lax.map(lambda token: one(*token), arrays, batch_size=step)


def _block(idx_BK, d):
    return max(1, BLOCK // (idx_BK.shape[1] * d))


def _within(x_BK, n_used):
    if n_used is None:
        return x_BK
    used_G = jnp.reshape(n_used, -1)
    used_B1 = jnp.repeat(used_G, len(x_BK) // len(used_G))[:, None]
    return jnp.where(jnp.arange(x_BK.shape[1]) < used_B1, x_BK, 0)


def _dense(a, b, idx_BK, n_latents):
    """Whether the matrix product is used: for operands of one width, at most DENSE latents for each entry."""
    most = DENSE.get(a.dtype.itemsize, 0) if a.dtype == b.dtype else 0
    return n_latents <= most * idx_BK.shape[1]


def _codes(val_BK, idx_BK, n_latents):
    row = lambda val_K, idx_K: jnp.zeros(n_latents, val_K.dtype).at[idx_K].add(val_K)
    return jax.vmap(row)(val_BK, idx_BK)


SUM = {
    "loop": sum_loop,
    "unrolled": sum_unrolled,
    "gathered": sum_gathered,
    "matmul": sum_matmul,
}
DOT = {
    "loop": dot_loop,
    "gathered": dot_gathered,
    "matmul": dot_matmul,
}
ADD = {
    "loop": add_loop,
    "scattered": add_scattered,
    "matmul": add_matmul,
}
