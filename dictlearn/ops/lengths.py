"""Lengths and explained variance at any scale of the activations.

Squares overflow or underflow float32 long before the numbers do (1e20 squared is infinite, 1e-25 squared is
zero), so a length is computed in units of the largest entry.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

Array = jax.Array | np.ndarray


def length(a: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """The Euclidean length along an axis, float32; 0 for zeros and for no entries."""
    a = a.astype(jnp.float32)
    unit = nonzero(jnp.abs(a).max(axis, keepdims=True, initial=0))
    return jnp.sqrt(((a / unit) ** 2).sum(axis)) * unit.squeeze(axis)


def nonzero(divisor: Float[Array, "..."]) -> Float[Array, "..."]:
    """The divisor, with 1 instead of 0, for numerators that are 0 where the divisor is."""
    return jnp.where(divisor == 0, 1, divisor)


def unit_rows(rows: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """The rows at length 1; rows of zeros stay zero."""
    return rows / nonzero(length(rows, -1))[..., None]


def explained_variance(y_BD: Float[Array, "B D"], yhat_BD: Float[Array, "B D"]) -> float:
    """1 - FVU about the mean of these rows, in float64; NaN for rows that are all equal."""
    y_BD, yhat_BD = (np.asarray(a, np.float64) for a in (y_BD, yhat_BD))
    moved_BD = y_BD - y_BD[:1]
    variance = np.sum((moved_BD - moved_BD.mean(0)) ** 2)
    return float(1 - np.sum((y_BD - yhat_BD) ** 2) / variance) if variance else float("nan")
