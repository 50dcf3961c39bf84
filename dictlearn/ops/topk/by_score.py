"""The entries of each token with the largest scores, where the score is not the value that is decoded."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from dictlearn.ops.topk.exact import top_k


def top_by(
    score_BF: Float[Array, "B F"], pre_BF: Float[Array, "B F"], k: int
) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """`pre_BF` at the `k` largest scores of every row, the largest score first, with their indices; without
    gradient. Equal scores in the order of their indices. Raises ValueError if `k` exceeds F."""
    _, idx_BK = top_k(score_BF, k)
    return jnp.take_along_axis(lax.stop_gradient(pre_BF), idx_BK, axis=1), idx_BK
