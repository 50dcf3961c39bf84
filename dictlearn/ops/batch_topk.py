"""The n largest entries of a whole batch, found by a threshold instead of a sort.

Non-negative float32 values order as their bit patterns do, so 31 counts bisect to the exact value of the
n-th largest entry. Counts are sums, and so are exact over any sharding of the batch and the latents.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.ops.uniform import any_member


def nth_largest(x: Float[Array, "B F"], n) -> Float[Array, ""]:
    """The `n`-th largest value of a non-negative array (0 when fewer than `n` are positive). `n` may
    be traced."""
    bits = lax.bitcast_convert_type(lax.stop_gradient(x).astype(jnp.float32), jnp.int32)

    def halve(_, bounds):
        low, high = bounds  # count(bits >= low) >= n > count(bits >= high)
        middle = low + (high - low) // 2
        enough = jnp.sum(bits >= middle, dtype=jnp.int32) >= n
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    infinity = jnp.int32(0x7F800001)
    low, _ = lax.fori_loop(0, 31, halve, (jnp.int32(0), infinity))
    return lax.bitcast_convert_type(low, jnp.float32).astype(x.dtype)


def batch_top(x: Float[Array, "B F"], n) -> Bool[Array, "B F"]:
    """True for the `n` largest positive entries of the whole array, ties to the lowest flat index."""
    x = lax.stop_gradient(x)
    threshold = nth_largest(x, n)
    above, level = x > threshold, (x == threshold) & (x > 0)
    room = n - jnp.sum(above, dtype=jnp.int32)

    def break_ties():
        rank = jnp.cumsum(level.reshape(-1).astype(jnp.int32)).reshape(level.shape)
        return level & (rank <= room)

    crowded = any_member(jnp.sum(level, dtype=jnp.int32) > room)
    return above | lax.cond(crowded, break_ties, lambda: level)
