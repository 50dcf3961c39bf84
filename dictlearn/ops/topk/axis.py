"""A mask of the n largest entries of each column of a batch (a latent selects its tokens) or of each row.

As in ops/topk/batch.py a threshold is found by counting, here one for each column or row; counts are
sums, and so are exact over any sharding. For a mask of many entries in a row, counting is faster than
`lax.top_k`.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dictlearn.ops import blocks
from dictlearn.ops.control_flow import any_member
from dictlearn.ops.topk.batch import INFINITY, smallest


def column_top(x_BF: Float[Array, "B F"], n_F: Int[Array, " F"]) -> Bool[Array, "B F"]:
    """True for the `n_F` largest positive entries of every column; equal entries in the order of their rows.
    Entries must not be negative."""
    return _top(lax.stop_gradient(x_BF), n_F, 0)


def row_top(x_BF: Float[Array, "B F"], n) -> Bool[Array, "B F"]:
    """True for the `n` largest positive entries of every row; equal entries in the order of their columns.
    Entries must not be negative."""
    top = lambda x_bF: _top(x_bF, jnp.full(len(x_bF), n), 1)
    return blocks.each(top, lax.stop_gradient(x_BF))


def _top(x, n, axis):
    bits = lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)
    count = lambda mask: jnp.sum(mask, axis=axis, dtype=jnp.int32)
    each = lambda values: jnp.expand_dims(values, axis)
    threshold = each(smallest(lambda value: count(bits > each(value)) < n, INFINITY, n.shape))
    above, level = bits > threshold, (bits == threshold) & (bits > 0)
    room = n - count(above)
    crowded = any_member(jnp.any(count(level) > room))
    place = lax.broadcasted_iota(jnp.int32, x.shape, axis)
    upto = lambda last: level & (place <= each(last))
    last = lambda: smallest(lambda last: count(upto(last)) >= room, x.shape[axis] - 1, n.shape)
    first = lambda: upto(last()) & each(room > 0)
    return above | lax.cond(crowded, first, lambda: level)
