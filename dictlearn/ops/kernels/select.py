"""The k largest entries of every row for NVIDIA GPUs, in Pallas (Triton); equal to `lax.top_k`.

A program holds one row in registers and takes its largest entry k times, by reductions only; XLA would
sort the whole row together with its indices. Entries are compared as integers with the same order as the
floats, so that a taken entry (the smallest integer) is below -inf. Equal entries are ordered by index, and a
NaN comes first, as in `lax.top_k`. `ops.topk` calls it on chunk maxima and on the chunks it keeps: no row is
wide.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

WIDEST, MOST = 16384, 256
"""For wider rows, or more entries of a row, `lax.top_k` is used."""


def top_k(x_BN, k, *, interpret=False):
    """(values, indices) `[B, K]` of the `k` largest entries of every row, the largest first."""
    n_rows, n = x_BN.shape
    if n > WIDEST or k > MOST or x_BN.dtype.itemsize > 4:
        return lax.top_k(x_BN, k)
    width = pl.next_power_of_2(n)
    idx_BK = pl.pallas_call(
        partial(_select, width=width),
        out_shape=jax.ShapeDtypeStruct((n_rows, k), jnp.int32),
        grid=(n_rows,),
        compiler_params=plt.CompilerParams(num_warps=max(1, min(8, width // 1024))),
        interpret=interpret,
    )(x_BN)
    return jnp.take_along_axis(x_BN, idx_BK, axis=1), idx_BK


def _select(x_ref, idx_ref, *, width):
    row, column_W, least = pl.program_id(0), jnp.arange(width), jnp.iinfo(jnp.int32).min
    in_W = column_W < x_ref.shape[1]
    x_W = plt.load(x_ref.at[row, column_W], mask=in_W, other=0).astype(jnp.float32)
    bits_W = lax.bitcast_convert_type(x_W, jnp.int32)
    ordered_W = jnp.where(bits_W < 0, bits_W ^ jnp.iinfo(jnp.int32).max, bits_W)

    def take(turn, left_W):
        idx = jnp.argmax(left_W).astype(jnp.int32)
        plt.store(idx_ref.at[row, turn], idx)
        return jnp.where(column_W == idx, least, left_W)

    lax.fori_loop(0, idx_ref.shape[1], take, jnp.where(in_W, ordered_W, least))
