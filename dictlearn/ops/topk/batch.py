"""The n largest entries of a whole batch, found by a threshold instead of a sort.

Positive float32 values have the same order as their bit patterns, and those of negative values are negative,
so 31 counts bisect to the exact value of the n-th largest entry. Counts are sums, and so are exact over any
sharding of the batch and the latents.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dictlearn.ops.control_flow import any_member
from dictlearn.ops.sparse.crowded import fullest, shares
from dictlearn.ops.topk.exact import top_k

INFINITY = 0x7F800000
"""The bit pattern of infinity as a float32: no entry is above it."""


class Top(NamedTuple):
    """The largest entries of a batch. on_BF: their mask. least: the smallest of them, infinity where there are
    none. near: the largest scores of each row `[B, M]`, zero where they are not of the mask, and the indices of
    their columns; None where every row was searched whole."""

    on_BF: Bool[Array, "B F"]
    least: Float[Array, ""]
    near: tuple[Float[Array, "B M"], Int[Array, "B M"]] | None


def nth_largest(x: Float[Array, "B F"], n) -> Float[Array, ""]:
    """The `n`-th largest value of an array, 0 when fewer than `n` are positive. `n` may be traced."""
    return _search(n, lax.stop_gradient(x))[0]


def batch_top(x: Float[Array, "B F"], n, k_sparse: int | None = None) -> Top:
    """The `n` largest positive entries of the whole array; equal entries in the order of their flat indices.

    k_sparse: search the `k_sparse` largest entries of each row, and all entries of the rows that have more if
    these are few; otherwise search all entries.
    """
    x, near, tiers = lax.stop_gradient(x), None, shares(len(x))
    if k_sparse is None or k_sparse >= x.shape[1] or not tiers:
        value, at_least = _search(n, x)
    else:
        near = top_k(x, k_sparse)
        value, at_least = _near(n, x, near[0], tiers)
    crowded = any_member((value > 0) & (at_least > n))
    end = jnp.int32(len(x)), jnp.int32(0)
    last = lax.cond(crowded, lambda: _last(x, value, n), lambda: end)
    positive = lambda: jnp.where(value > 0, value, jnp.min(jnp.where(x > 0, x, jnp.inf)))
    least = lax.cond(any_member(value == 0), positive, lambda: value)
    rows, columns = (lax.broadcasted_iota(jnp.int32, x.shape, axis) for axis in (0, 1))
    on_BF = _kept(x, value, last, rows, columns)
    if near is None:
        return Top(on_BF, least, None)
    score_BM, idx_BM = near
    on_BM = _kept(score_BM, value, last, rows[:, :1], idx_BM)
    return Top(on_BF, least, (jnp.where(on_BM, score_BM, 0), idx_BM))


def _near(n, x, near, tiers):
    """The n-th largest value and the number of entries that are at least as large, from the largest entries
    of each row alone if the others are smaller; otherwise also from all entries of the rows that may have
    more, the fullest one in `tiers[0]`, `tiers[1]`, ..., and at last from all rows."""
    found, end_B = _search(n, near), near.min(axis=1)
    more = lambda value: (end_B >= value) & (end_B > 0)

    def whole(tiers):
        if not tiers:
            return _search(n, x)
        take, put, fit = fullest(end_B, tiers[0])
        ones = jnp.ones(len(x), near.dtype)
        others = near * put(ones, -take(ones))[:, None]
        found = _search(n, others, take(x))
        misfit = any_member(~fit(more(found[0])))
        return lax.cond(misfit, lambda: whole(tiers[1:]), lambda: found)

    return lax.cond(any_member(jnp.any(more(found[0]))), lambda: whole(tiers), lambda: found)


def _search(n, *parts):
    """The n-th largest value of the parts, and how many entries are at least as large."""
    bits = [lax.bitcast_convert_type(part.astype(jnp.float32), jnp.int32) for part in parts]
    count = lambda holds: sum(_number(holds(part)) for part in bits)
    found = smallest(lambda value: count(lambda part: part > value) < n, INFINITY)
    at_least = count(lambda part: part >= found)
    return lax.bitcast_convert_type(found, jnp.float32).astype(parts[0].dtype), at_least


def _number(mask_BX):
    """How many are true. Rows are summed in float32, exact for rows below 2^24: on CPU XLA sums integers of a
    row one by one."""
    return jnp.sum(jnp.sum(mask_BX, axis=1, dtype=jnp.float32).astype(jnp.int32))


def _kept(x, value, last, rows, columns):
    """The mask of positive entries above `value`, and of those at it up to the place `last`."""
    row, column = last
    first = (rows < row) | ((rows == row) & (columns <= column))
    return (x > value) | ((x == value) & (x > 0) & first)


def _last(x: Float[Array, "B F"], value, n):
    """The row and the column of the last entry at `value` that belongs to the `n` largest."""
    rows, columns = (lax.broadcasted_iota(jnp.int32, x.shape, axis) for axis in (0, 1))
    level = x == value
    left = n - jnp.sum(x > value, dtype=jnp.int32)
    upto_row = lambda row: jnp.sum(level & (rows <= row), dtype=jnp.int32)
    row = smallest(lambda row: upto_row(row) >= left, x.shape[0] - 1)
    here, left = level & (rows == row), left - upto_row(row - 1)
    upto = lambda column: jnp.sum(here & (columns <= column), dtype=jnp.int32)
    return row, smallest(lambda column: upto(column) >= left, x.shape[1] - 1)


def smallest(holds, top: int, shape: tuple[int, ...] = (), least: int = 0, dtype=jnp.int32):
    """The smallest integer in [least, top] at which a monotone predicate holds (`top` if it holds nowhere
    before); with `shape`, one for each element."""

    def halve(_, bounds):
        low, high = bounds
        middle = (low & high) + ((low ^ high) >> 1)  # their mean, without overflow
        yes = holds(middle)
        return jnp.where(yes, low, middle + 1), jnp.where(yes, middle, high)

    steps = max(1, (top - least).bit_length())
    bounds = (jnp.full(shape, least, dtype), jnp.full(shape, top, dtype))
    return lax.fori_loop(0, steps, halve, bounds)[1]
