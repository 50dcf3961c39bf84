"""Initial values of a dictionary's parameters."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def unit_rows(key, shape, dtype=jnp.float32) -> Array:
    """Gaussian rows scaled to unit norm, `[F, D]`."""
    rows = jax.random.normal(key, shape, dtype)
    return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)


def kaiming_uniform(key, shape, dtype=jnp.float32) -> Array:
    """Rows `[F, D]` drawn from U(-1/sqrt(D), 1/sqrt(D)), torch's default for a linear layer."""
    bound = shape[-1] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def data_rows(key, x_BD: Float[Array, "B D"], n: int) -> Float[Array, "n D"]:
    """`n` rows of a batch about its mean, scaled to unit norm: without replacement while there are enough.
    Noise of a hundredth of their norm makes all rows different."""
    k_row, k_noise = jax.random.split(key)
    order = jax.random.permutation(k_row, x_BD.shape[0])
    rows = (x_BD - x_BD.mean(0))[order[jnp.arange(n) % x_BD.shape[0]]]
    rows = rows / jnp.maximum(jnp.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows + 0.01 * unit_rows(k_noise, rows.shape, rows.dtype)


def geometric_median(
    x_BD: Float[Array, "B D"], max_steps: int = 100, tolerance: float = 1e-5
) -> Float[Array, " D"]:
    """The point with the smallest summed distance to all rows, by Weiszfeld's iteration from the mean.

    It stops after `max_steps`, or when the point moves by less than `tolerance` times the mean norm of
    the rows.
    """

    def step(carry):
        point, _, n = carry
        distance = jnp.linalg.norm(x_BD - point, axis=-1)
        weight = 1 / jnp.maximum(distance, 1e-12)
        new = (weight / weight.sum()) @ x_BD
        return new, jnp.linalg.norm(new - point), n + 1

    scale = jnp.linalg.norm(x_BD, axis=-1).mean()
    more = lambda carry: (carry[1] > tolerance * scale) & (carry[2] < max_steps)
    return jax.lax.while_loop(more, step, (x_BD.mean(0), jnp.inf * scale, 0))[0]
