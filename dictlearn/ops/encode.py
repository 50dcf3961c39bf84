"""Pre-activations for selection: `x W_enc^T + b_enc`, without gradient.

XLA fuses the sum into each of its readers, which adds the bias again, and the reductions on CPU do not fuse.
The product and the sum are then both held, and the sum is computed twice. On CPU the bias is therefore added to
the product in place. Measured on 2 cores at B 2048, D 768, F 12288: encoder and top-k in 142 instead of 167 ms,
and one `[B, F]` array instead of two.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dictlearn.sharding import is_split

TURNS = 8


def pre_activations(
    x_BD: Float[Array, "B D"], W_enc_FD: Float[Array, "F D"], b_enc_F: Float[Array, " F"]
) -> Float[Array, "B F"]:
    """The pre-activations by which latents are selected; `sparse.select` gives the selected values their
    gradient."""
    product_BF = lax.stop_gradient(x_BD @ W_enc_FD.T)
    b_enc_F = lax.stop_gradient(b_enc_F)
    if is_split() or len(product_BF) % TURNS:
        return product_BF + b_enc_F
    return lax.platform_dependent(product_BF, b_enc_F, cpu=_add_in_place, default=jnp.add)


def _add_in_place(product_BF, b_F):
    rows = len(product_BF) // TURNS

    def add(turn, sum_BF):
        part = lax.dynamic_slice_in_dim(sum_BF, turn * rows, rows) + b_F
        return lax.dynamic_update_slice_in_dim(sum_BF, part, turn * rows, 0)

    return lax.fori_loop(0, TURNS, add, product_BF)
