"""The non-negative contrastive loss: a code should be more like itself than like the codes of other tokens.

    loss_i = -log( exp(<z_i, z_i> / t) / sum_j exp(<z_i, z_j> / t) )      j over the batch, i among them

Source: Wen et al. 2025 (CSR, arXiv:2503.01776), after Wang et al. 2024 (non-negative contrastive learning).
The sum over j is of the global batch, and is taken as a log-sum-exp: without scaling, exp(<z, z>) overflows.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dictlearn.types import Scalar


def contrastive(
    z_BF: Float[Array, "B F"], temperature: Scalar, normalise: bool
) -> Float[Array, " B"]:
    """Per token, at least float32. normalise: codes are scaled to unit length first; a zero code stays zero."""
    z_BF = z_BF.astype(jnp.promote_types(z_BF.dtype, jnp.float32))
    if normalise:
        square_B1 = jnp.sum(z_BF**2, 1, keepdims=True)
        z_BF = z_BF / jnp.sqrt(jnp.where(square_B1 > 0, square_B1, 1))
    alike_BB = z_BF @ z_BF.T / temperature
    return jax.nn.logsumexp(alike_BB, axis=1) - jnp.sum(z_BF**2, 1) / temperature
