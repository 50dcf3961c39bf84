"""Four primitives between sparse entries (`val_BK` at latents `idx_BK`) and a matrix of rows `W_FD`.

Each is a loop over the K entries of a token: gathering all of them at once would hold `[B, K, D]`.
With the latent axis sharded, a shard serves the entries whose latents it owns; what is summed over
latents is then summed over shards, what is summed over tokens over the data axis.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Num

from dictlearn.sharding import axis_size, is_split

TOKENS, ROWS, PARTS = P("data", None), P("model", None), P(None, "data", None)


def rows_sum(
    val_BK: Float[Array, "B K"], idx_BK: Int[Array, "B K"], W_FD: Float[Array, "F D"], length=None
) -> Float[Array, "B D"]:
    """`out_b = sum_k val_bk W[idx_bk]`: the sparse decoder.

    length: how many of the K entries any token uses, the rest of `val_BK` being zero; may be traced."""

    def local(val, idx, W, *length):
        val, idx = owned(val, idx, len(W))
        zero = jnp.zeros((val.shape[0], W.shape[1]), jnp.result_type(val, W))
        add = lambda out, v, i: out + v[:, None] * W[i]
        return sum_over("model", loop(add, zero, (val.T, idx.T), *length))

    return split(local, (TOKENS, TOKENS, ROWS), TOKENS, length)(val_BK, idx_BK, W_FD)


def rows_dot(
    g_BD: Float[Array, "B D"], idx_BK: Int[Array, "B K"], W_FD: Float[Array, "F D"], length=None
) -> Float[Array, "B K"]:
    """`out_bk = <g_b, W[idx_bk]>`: the gradient of `rows_sum` with respect to `val_BK`; zero from entry
    `length` on."""

    def local(g, idx, W, *length):
        mine, idx = owned(jnp.ones(idx.shape, g.dtype), idx, len(W))
        dot = lambda i: jnp.sum(g * W[i], axis=-1)
        if not length:
            _, out = lax.scan(lambda _, i: (None, dot(i)), None, idx.T)
        else:
            zero = jnp.zeros(idx.T.shape, jnp.result_type(g, W))
            put = lambda out, t, i: lax.dynamic_update_index_in_dim(out, dot(i), t, 0)
            out = loop(put, zero, (jnp.arange(len(zero)), idx.T), *length)
        return sum_over("model", out.T * mine)

    return split(local, (TOKENS, TOKENS, ROWS), TOKENS, length)(g_BD, idx_BK, W_FD)


def rows_add(
    val_BK: Float[Array, "B K"],
    idx_BK: Int[Array, "B K"],
    g_BD: Float[Array, "B D"],
    n_latents: int,
    length=None,
) -> Float[Array, "F D"]:
    """`out_f = sum over entries with idx_bk = f of val_bk g_b`: the gradient with respect to `W_FD`."""

    def local(val, idx, g, *length):
        n_local = n_latents // axis_size("model")
        val, idx = owned(val, idx, n_local)
        zero = jnp.zeros((n_local, g.shape[1]), jnp.result_type(val, g))
        add = lambda out, v, i: out.at[i].add(v[:, None] * g)
        return sum_over("data", loop(add, zero, (val.T, idx.T), *length))

    return split(local, (TOKENS, TOKENS, TOKENS), ROWS, length)(val_BK, idx_BK, g_BD)


def bins(val_BK: Num[Array, "B K"], idx_BK: Int[Array, "B K"], n_latents: int) -> Num[Array, " F"]:
    """`out_f = sum over entries with idx_bk = f of val_bk`."""

    def local(val, idx):
        n_local = n_latents // axis_size("model")
        val, idx = owned(val, idx, n_local)
        return sum_over("data", jnp.zeros(n_local, val.dtype).at[idx].add(val))

    return split(local, (TOKENS, TOKENS), P("model"))(val_BK, idx_BK)


def loop(step, start, xs, length=None):
    """`step(carry, *x)` for every x, or the first `length`."""
    if length is None:
        return lax.scan(lambda carry, x: (step(carry, *x), None), start, xs)[0]
    at = lambda t: [lax.dynamic_index_in_dim(x, t, keepdims=False) for x in xs]
    return lax.fori_loop(0, length, lambda t, carry: step(carry, *at(t)), start)


def owned(val, idx, n_local):
    """Indices within this shard's rows; entries of other shards' latents become zeros at row 0."""
    if axis_size("model") == 1:
        return val, idx
    idx = idx - lax.axis_index("model") * n_local
    mine = (idx >= 0) & (idx < n_local)
    return jnp.where(mine, val, 0), jnp.where(mine, idx, 0)


def sum_over(axis, x):
    """The sum over the shards of a mesh axis."""
    return lax.psum(x, axis) if axis_size(axis) > 1 else x


def split(local, in_specs, out_specs, length=None) -> Callable:
    """`local` as it is, or on every shard; with `length` as its last argument, if there is one."""
    if not is_split():
        return local if length is None else lambda *arrays: local(*arrays, length)
    over = partial(jax.shard_map, out_specs=out_specs, check_vma=False)
    if length is None:
        return over(local, in_specs=in_specs)
    return lambda *arrays: over(local, in_specs=(*in_specs, P()))(*arrays, length)
