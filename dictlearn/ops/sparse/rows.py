"""Four primitives between sparse entries (`val_BK` at latents `idx_BK`) and a matrix of rows `W_FD`.

`ops.sparse.forms` has the forms of each on one device, and `ops.sparse.backend` chooses by platform. With
a sharded latent axis, a shard handles the entries whose latents it owns; sums over latents are then
summed over shards, and sums over tokens over the data axis.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Num

from dictlearn.ops.sparse import forms
from dictlearn.ops.sparse.backend import by_platform
from dictlearn.sharding import axis_size, is_split

TOKENS, ROWS, PARTS = P("data", None), P("model", None), P(None, "data", None)


def rows_sum(
    val_BK: Float[Array, "B K"], idx_BK: Int[Array, "B K"], W_FD: Float[Array, "F D"], n_used=None
) -> Float[Array, "B D"]:
    """`out_b = sum_k val_bk W[idx_bk]`: the sparse decoder.

    n_used: the largest number of the K entries that any token uses (the others are zero); may be traced, and
    may be `[G]`, for each of G equal groups of consecutive tokens of every shard.
    """

    def local(val, idx, W, *n_used):
        val, idx = owned(val, idx, len(W))
        return sum_over("model", by_platform("rows_sum", forms.SUM, val, idx, W, *n_used))

    return split(local, (TOKENS, TOKENS, ROWS), TOKENS, n_used)(val_BK, idx_BK, W_FD)


def rows_dot(
    g_BD: Float[Array, "B D"], idx_BK: Int[Array, "B K"], W_FD: Float[Array, "F D"], n_used=None
) -> Float[Array, "B K"]:
    """`out_bk = <g_b, W[idx_bk]>`: the gradient of `rows_sum` with respect to `val_BK`; zero from entry
    `n_used` on."""

    def local(g, idx, W, *n_used):
        mine, idx = owned(jnp.ones(idx.shape, g.dtype), idx, len(W))
        out = by_platform("rows_dot", forms.DOT, g, idx, W, *n_used)
        return sum_over("model", out * mine)

    return split(local, (TOKENS, TOKENS, ROWS), TOKENS, n_used)(g_BD, idx_BK, W_FD)


def rows_add(
    val_BK: Float[Array, "B K"],
    idx_BK: Int[Array, "B K"],
    g_BD: Float[Array, "B D"],
    n_latents: int,
    n_used=None,
) -> Float[Array, "F D"]:
    """`out_f = sum over entries with idx_bk = f of val_bk g_b`: the gradient with respect to `W_FD`."""

    def local(val, idx, g, *n_used):
        n_local = n_latents // axis_size("model")
        val, idx = owned(val, idx, n_local)
        add = partial(by_platform, "rows_add", forms.ADD, n_latents=n_local)
        return sum_over("data", add(val, idx, g, *n_used))

    return split(local, (TOKENS, TOKENS, TOKENS), ROWS, n_used)(val_BK, idx_BK, g_BD)


def bins(val_BK: Num[Array, "B K"], idx_BK: Int[Array, "B K"], n_latents: int) -> Num[Array, " F"]:
    """`out_f = sum over entries with idx_bk = f of val_bk`."""

    def local(val, idx):
        n_local = n_latents // axis_size("model")
        val, idx = owned(val, idx, n_local)
        return sum_over("data", jnp.zeros(n_local, val.dtype).at[idx].add(val))

    return split(local, (TOKENS, TOKENS), P("model"))(val_BK, idx_BK)


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


def split(local, in_specs, out_specs, n_used=None) -> Callable:
    """`local` as it is, or mapped over the shards; with `n_used` as its last argument where it is given."""
    if not is_split():
        return local if n_used is None else lambda *arrays: local(*arrays, n_used)
    over = partial(jax.shard_map, out_specs=out_specs, check_vma=False)
    if n_used is None:
        return over(local, in_specs=in_specs)
    return lambda *arrays: over(local, in_specs=(*in_specs, P()))(*arrays, n_used)
