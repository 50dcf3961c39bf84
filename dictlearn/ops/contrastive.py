"""The non-negative contrastive loss: a code should be more similar to itself than to the codes of other
tokens.

    loss_i = -log( exp(<z_i, z_i> / t) / sum_j exp(<z_i, z_j> / t) )      j over the batch, including i

The sum over j is over the global batch, and is computed as a log-sum-exp: without scaling, exp(<z, z>)
overflows.

Source: Wen et al. 2025 (CSR, arXiv:2503.01776), after Wang et al. 2024 (non-negative contrastive
learning).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dictlearn.types import Scalar


def contrastive(
    z_BF: Float[Array, "B F"], temperature: Scalar, normalise: bool
) -> Float[Array, " B"]:
    """The loss of each token, in float32 or wider. normalise: codes are first scaled to unit norm; a zero
    code stays zero."""
    z_BF = z_BF.astype(jnp.promote_types(z_BF.dtype, jnp.float32))
    if normalise:
        square_B1 = jnp.sum(z_BF**2, 1, keepdims=True)
        z_BF = z_BF / jnp.sqrt(jnp.where(square_B1 > 0, square_B1, 1))
    alike_BB = z_BF @ z_BF.T / temperature
    return jax.nn.logsumexp(alike_BB, axis=1) - jnp.sum(z_BF**2, 1) / temperature
