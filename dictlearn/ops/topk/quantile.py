"""The quantile of each column of a batch, found by counting instead of a sort.

The bits of floats, with those of negative values flipped, are integers in the order of the values. So as many
counts as a value has bits bisect to an entry of the column. On CPU that takes a twelfth of the time of a sort.
Counts are sums, and so are exact over any sharding.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from dictlearn.ops import blocks
from dictlearn.ops.topk.batch import smallest


def column_quantile(x_BF: Float[Array, "B F"], share) -> Float[Array, " F"]:
    """The value at the place `share * (B - 1)` of each sorted column, by linear interpolation between two
    entries, as `jnp.quantile(x_BF, share, axis=0)` has it.

    Args:
        x_BF: finite values.
        share: between 0 and 1, one for all columns or one for each.
    """
    x_BF = lax.stop_gradient(x_BF)
    x_BF = x_BF.astype(jnp.promote_types(x_BF.dtype, jnp.float32))
    place_F = jnp.broadcast_to(jnp.asarray(share, x_BF.dtype), x_BF.shape[1:]) * (len(x_BF) - 1)
    below_F = jnp.floor(place_F)
    atmost = lambda value_F: lambda x_BF: jnp.sum(x_BF <= value_F, axis=0, dtype=jnp.int32)
    upto = lambda value_F: blocks.summed(atmost(value_F), x_BF)
    wanted_F = below_F.astype(jnp.int32) + 1
    bits = jnp.dtype(f"int{8 * x_BF.dtype.itemsize}")
    infinity = int(np.array(np.inf, x_BF.dtype).view(bits))
    reaches = lambda key_F: upto(_value(key_F, x_BF.dtype)) >= wanted_F
    key_F = smallest(reaches, infinity, wanted_F.shape, -infinity - 1, bits)
    entry_F = _value(key_F, x_BF.dtype)
    above_F = jnp.min(jnp.where(x_BF > entry_F, x_BF, jnp.inf), axis=0)
    next_F = jnp.where((upto(entry_F) > wanted_F) | jnp.isinf(above_F), entry_F, above_F)
    return entry_F + (place_F - below_F) * (next_F - entry_F)


def _value(key_F, dtype):
    """The floats of integers in the same order, of which infinity has its own bits."""
    flipped_F = jnp.where(key_F < 0, key_F ^ jnp.iinfo(key_F.dtype).max, key_F)
    return lax.bitcast_convert_type(flipped_F, dtype)
