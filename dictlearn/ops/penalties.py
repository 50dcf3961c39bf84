"""Sparsity penalties of dense latents: `[B, F] -> [B]`, summed over F in float32 or wider, without
coefficient.

l1     sum_i f_i
power  sum_i (f_i + eps)^p over active latents    the slope at 0 is finite, p eps^(p - 1), and zero below
tanh   sum_i tanh(c f_i)
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from dictlearn.types import Scalar


def l1(f_BF: Float[Array, "B F"]) -> Float[Array, " B"]:
    """The sum of the latents, which must not be negative."""
    return _wide(f_BF).sum(-1)


def power(f_BF: Float[Array, "B F"], p: Scalar, eps: float = 1e-8) -> Float[Array, " B"]:
    """The p-th power of the Lp quasi-norm; p > 0 may be traced. eps bounds the slope at zero."""
    f_BF = _wide(f_BF)
    on = f_BF > 0
    log_BF = jnp.log(jnp.where(on, f_BF + eps, 1))
    return jnp.where(on, jnp.exp(p * log_BF), 0).sum(-1)


def tanh(f_BF: Float[Array, "B F"], c: Scalar) -> Float[Array, " B"]:
    """Approximately the number of latents well above 1 / c, plus c times the sum of the latents well below
    it."""
    return jnp.tanh(c * _wide(f_BF)).sum(-1)


def row_norms(W_FD: Float[Array, "F D"]) -> Float[Array, " F"]:
    """The norms of rows; the gradient is zero (not NaN) where a row is zero."""
    square_F = (_wide(W_FD) ** 2).sum(-1)
    on = square_F > 0
    return jnp.where(on, jnp.sqrt(jnp.where(on, square_F, 1)), 0)


def _wide(array):
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))
