"""The n_f largest entries of each column of a batch: a latent chooses its tokens.

As in ops/batch_topk.py a threshold is found by counting, here one a column; counts are sums over the batch,
and so are exact over any sharding of it.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dictlearn.ops.uniform import any_member

_INFINITY = 0x7F800000


def column_top(x_BF: Float[Array, "B F"], n_F: Int[Array, " F"]) -> Bool[Array, "B F"]:
    """True for the `n_F` largest positive entries of every column, ties to the lowest row. Entries must
    not be negative."""
    x_BF = lax.stop_gradient(x_BF)
    bits_BF = lax.bitcast_convert_type(x_BF.astype(jnp.float32), jnp.int32)

    def halve(_, bounds):
        low_F, high_F = bounds
        middle_F = low_F + (high_F - low_F) // 2
        yes_F = jnp.sum(bits_BF > middle_F, axis=0, dtype=jnp.int32) < n_F
        return jnp.where(yes_F, low_F, middle_F + 1), jnp.where(yes_F, middle_F, high_F)

    low_F = jnp.zeros_like(n_F, jnp.int32)
    level_F = lax.fori_loop(0, 31, halve, (low_F, jnp.full_like(low_F, _INFINITY)))[1]
    above_BF = bits_BF > level_F
    level_BF = (bits_BF == level_F) & (bits_BF > 0)
    room_F = n_F - jnp.sum(above_BF, axis=0, dtype=jnp.int32)
    crowded = any_member(jnp.any(jnp.sum(level_BF, axis=0, dtype=jnp.int32) > room_F))
    first = lambda: level_BF & (jnp.cumsum(level_BF, axis=0, dtype=jnp.int32) <= room_F)
    return above_BF | lax.cond(crowded, first, lambda: level_BF)
