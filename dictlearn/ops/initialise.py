"""Starting points for a dictionary's parameters."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def unit_rows(key, shape, dtype=jnp.float32) -> Array:
    """Gaussian rows scaled to unit norm, `[F, D]`."""
    rows = jax.random.normal(key, shape, dtype)
    return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)


def geometric_median(
    x_BD: Float[Array, "B D"], max_steps: int = 100, tolerance: float = 1e-5
) -> Float[Array, " D"]:
    """The point with the least summed distance to all rows, by Weiszfeld's iteration from the mean.

    Stops after `max_steps`, or when the point moves by less than `tolerance` of its own norm plus
    that of the mean row."""

    def step(carry):
        point, _, n = carry
        distance = jnp.linalg.norm(x_BD - point, axis=-1)
        weight = 1 / jnp.maximum(distance, 1e-12)
        new = (weight / weight.sum()) @ x_BD
        return new, jnp.linalg.norm(new - point), n + 1

    scale = jnp.linalg.norm(x_BD, axis=-1).mean()
    more = lambda carry: (carry[1] > tolerance * scale) & (carry[2] < max_steps)
    return jax.lax.while_loop(more, step, (x_BD.mean(0), jnp.inf * scale, 0))[0]
