"""The n largest entries of a whole batch, found by a threshold instead of a sort.

Non-negative float32 values have the same order as their bit patterns, so 31 counts bisect to the exact
value of the n-th largest entry. Counts are sums, and so are exact over any sharding of the batch and the
latents.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.ops.control_flow import any_member
from dictlearn.ops.sparse.crowded import fullest, splits
from dictlearn.ops.topk.exact import top_k

INFINITY = 0x7F800000
"""The bit pattern of infinity as a float32: no entry is above it."""


def nth_largest(x: Float[Array, "B F"], n, k_sparse: int | None = None) -> Float[Array, ""]:
    """The `n`-th largest value of a non-negative array (0 when fewer than `n` are positive). `n` may be
    traced.

    k_sparse: search the `k_sparse` largest entries of each row, and all entries of the few rows that may
    have more; if there are too many such rows, search all entries.
    """
    x = lax.stop_gradient(x)
    if k_sparse is None or k_sparse >= x.shape[1] or not splits(len(x)):
        return _counted(n, x)
    near, _ = top_k(x, k_sparse)
    take, put, fit = fullest(near[:, -1])
    ones = jnp.ones(len(x), near.dtype)
    others = near * put(ones, -take(ones))[:, None]
    found = _counted(n, others, take(x))
    more = (near[:, -1] >= found) & (near[:, -1] > 0)
    return lax.cond(any_member(~fit(more)), lambda: _counted(n, x), lambda: found)


def _counted(n, *parts):
    bits = [lax.bitcast_convert_type(part.astype(jnp.float32), jnp.int32) for part in parts]
    fewer = lambda value: sum(jnp.sum(part > value, dtype=jnp.int32) for part in bits) < n
    found = smallest(fewer, INFINITY)
    return lax.bitcast_convert_type(found, jnp.float32).astype(parts[0].dtype)


def batch_top(x: Float[Array, "B F"], n, k_sparse: int | None = None) -> Bool[Array, "B F"]:
    """True for the `n` largest positive entries of the whole array; equal entries in the order of their flat
    indices. k_sparse: as in `nth_largest`."""
    x = lax.stop_gradient(x)
    threshold = nth_largest(x, n, k_sparse)
    above, level = x > threshold, (x == threshold) & (x > 0)
    room = n - jnp.sum(above, dtype=jnp.int32)
    crowded = any_member(jnp.sum(level, dtype=jnp.int32) > room)
    return above | lax.cond(crowded, lambda: _first(level, room), lambda: level)


def _first(mask: Bool[Array, "B F"], n) -> Bool[Array, "B F"]:
    """The first `n` true entries in flat order: all earlier rows, and one row up to a column."""
    rows, columns = (lax.broadcasted_iota(jnp.int32, mask.shape, axis) for axis in (0, 1))
    upto_row = lambda row: jnp.sum(mask & (rows <= row), dtype=jnp.int32)
    row = smallest(lambda row: upto_row(row) >= n, mask.shape[0] - 1)
    here = mask & (rows == row)
    left = n - upto_row(row - 1)
    upto = lambda column: jnp.sum(here & (columns <= column), dtype=jnp.int32)
    column = smallest(lambda column: upto(column) >= left, mask.shape[1] - 1)
    return (mask & (rows < row)) | (here & (columns <= column))


def smallest(holds, top: int, shape: tuple[int, ...] = ()):
    """The smallest int32 in [0, top] at which a monotone predicate holds (`top` if it holds nowhere before);
    with `shape`, one for each element."""

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        yes = holds(middle)
        return jnp.where(yes, low, middle + 1), jnp.where(yes, middle, high)

    steps = max(1, top.bit_length())
    return lax.fori_loop(
        0, steps, halve, (jnp.zeros(shape, jnp.int32), jnp.full(shape, top, jnp.int32))
    )[1]
