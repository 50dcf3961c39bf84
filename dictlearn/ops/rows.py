"""Four primitives between sparse entries (`val_BK` at latents `idx_BK`) and a matrix of rows `W_FD`.

Each is a loop over the K entries of a token: gathering all of them at once would hold `[B, K, D]`.
With the latent axis sharded, a shard serves the entries whose latents it owns; what is summed over
latents is then summed over shards, what is summed over tokens over the data axis.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Num

from dictlearn.sharding import axis_size, is_split

_TOKENS, _ROWS = P("data", None), P("model", None)


def rows_sum(
    val_BK: Float[Array, "B K"], idx_BK: Int[Array, "B K"], W_FD: Float[Array, "F D"]
) -> Float[Array, "B D"]:
    """`out_b = sum_k val_bk W[idx_bk]`: the sparse decoder."""

    def local(val, idx, W):
        val, idx = _owned(val, idx, len(W))
        zero = jnp.zeros((val.shape[0], W.shape[1]), jnp.result_type(val, W))
        out, _ = lax.scan(
            lambda sum_, e: (sum_ + e[0][:, None] * W[e[1]], None), zero, (val.T, idx.T)
        )
        return _sum_over("model", out)

    return _split(local, (_TOKENS, _TOKENS, _ROWS), _TOKENS)(val_BK, idx_BK, W_FD)


def rows_dot(
    g_BD: Float[Array, "B D"], idx_BK: Int[Array, "B K"], W_FD: Float[Array, "F D"]
) -> Float[Array, "B K"]:
    """`out_bk = <g_b, W[idx_bk]>`: the gradient of `rows_sum` with respect to `val_BK`."""

    def local(g, idx, W):
        owned, idx = _owned(jnp.ones(idx.shape, g.dtype), idx, len(W))
        _, out = lax.scan(lambda _, i: (None, jnp.sum(g * W[i], axis=-1)), None, idx.T)
        return _sum_over("model", out.T * owned)

    return _split(local, (_TOKENS, _TOKENS, _ROWS), _TOKENS)(g_BD, idx_BK, W_FD)


def rows_add(
    val_BK: Float[Array, "B K"],
    idx_BK: Int[Array, "B K"],
    g_BD: Float[Array, "B D"],
    n_latents: int,
) -> Float[Array, "F D"]:
    """`out_f = sum over entries with idx_bk = f of val_bk g_b`: the gradient with respect to `W_FD`."""

    def local(val, idx, g):
        n_local = n_latents // axis_size("model")
        val, idx = _owned(val, idx, n_local)
        zero = jnp.zeros((n_local, g.shape[1]), jnp.result_type(val, g))
        add = lambda sum_, e: (sum_.at[e[1]].add(e[0][:, None] * g), None)
        return _sum_over("data", lax.scan(add, zero, (val.T, idx.T))[0])

    return _split(local, (_TOKENS, _TOKENS, _TOKENS), _ROWS)(val_BK, idx_BK, g_BD)


def bins(val_BK: Num[Array, "B K"], idx_BK: Int[Array, "B K"], n_latents: int) -> Num[Array, " F"]:
    """`out_f = sum over entries with idx_bk = f of val_bk`."""

    def local(val, idx):
        n_local = n_latents // axis_size("model")
        val, idx = _owned(val, idx, n_local)
        return _sum_over("data", jnp.zeros(n_local, val.dtype).at[idx].add(val))

    return _split(local, (_TOKENS, _TOKENS), P("model"))(val_BK, idx_BK)


def _owned(val, idx, n_local):
    """Indices within this shard's rows; entries of other shards' latents become zeros at row 0."""
    if axis_size("model") == 1:
        return val, idx
    idx = idx - lax.axis_index("model") * n_local
    mine = (idx >= 0) & (idx < n_local)
    return jnp.where(mine, val, 0), jnp.where(mine, idx, 0)


def _sum_over(axis, x):
    return lax.psum(x, axis) if axis_size(axis) > 1 else x


def _split(local, in_specs, out_specs):
    if not is_split():
        return local
    return partial(jax.shard_map, in_specs=in_specs, out_specs=out_specs, check_vma=False)(local)
