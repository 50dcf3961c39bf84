"""Sparse coding with an L1 penalty, by iterative shrinkage.

    min_z  1/2 |x - z D|^2 + sparsity |z|_1 + pull |z - towards|^2

    ISTA    z <- S_{sparsity/L}(z - g(z) / L)                L = largest eigenvalue of D D^T, plus 2 pull
    FISTA   the same from an extrapolated point     S the soft threshold, g the gradient of the smooth part

Codes are dense, `[B, F]`, in float32 or wider. L is found by power iteration, and so from below;
shrinkage converges for any step up to 2 / L.

Source: Daubechies et al. 2004; Beck & Teboulle 2009 (FISTA); the last term is from PSD (Kavukcuoglu et
al. 2008).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from dictlearn.types import Scalar


class Pull(NamedTuple):
    """A quadratic term that pulls codes towards `towards_BF`, with coefficient `weight`."""

    weight: Scalar
    towards_BF: jax.Array


def soft(u_BF: Float[Array, "B F"], threshold, positive: bool) -> Float[Array, "B F"]:
    """The soft threshold of `u` by `threshold`, a scalar or `[F]`; `positive` codes are also rectified."""
    if positive:
        return jax.nn.relu(u_BF - threshold)
    return jnp.sign(u_BF) * jax.nn.relu(jnp.abs(u_BF) - threshold)


def lipschitz(W_FD: Float[Array, "F D"], steps: int = 50) -> Float[Array, ""]:
    """The largest eigenvalue of `W W^T`, by power iteration from a fixed random direction."""
    unit = lambda v_D: v_D / jnp.maximum(jnp.linalg.norm(v_D), jnp.finfo(v_D.dtype).tiny)
    v_D = unit(jax.random.normal(jax.random.key(0), W_FD.shape[1:], W_FD.dtype))
    v_D = lax.fori_loop(0, steps, lambda _, v_D: unit((W_FD @ v_D) @ W_FD), v_D)
    return jnp.sum((W_FD @ v_D) ** 2)


def ista(
    x_BD: Float[Array, "B D"],
    W_FD: Float[Array, "F D"],
    sparsity: Scalar,
    steps: int,
    *,
    positive: bool,
    start_BF: Float[Array, "B F"] | None = None,
) -> Float[Array, "B F"]:
    """Codes after `steps` iterations of ISTA from `start_BF` (default: zero)."""
    x_BD, W_FD = _wide(x_BD), _wide(W_FD)
    step = _step(x_BD, W_FD, sparsity, positive, None)
    start_BF = _zeros(x_BD, W_FD) if start_BF is None else _wide(start_BF)
    return lax.fori_loop(0, steps, lambda _, z_BF: step(z_BF), start_BF)


def fista(
    x_BD: Float[Array, "B D"],
    W_FD: Float[Array, "F D"],
    sparsity: Scalar,
    steps: int,
    *,
    positive: bool,
    start_BF: Float[Array, "B F"] | None = None,
    pull: Pull | None = None,
) -> Float[Array, "B F"]:
    """Codes after `steps` iterations of FISTA from `start_BF` (default: zero)."""
    x_BD, W_FD = _wide(x_BD), _wide(W_FD)
    step = _step(x_BD, W_FD, sparsity, positive, pull)

    def accelerate(_, carry):
        z_BF, ahead_BF, t = carry
        new_BF = step(ahead_BF)
        t_new = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        return new_BF, new_BF + (t - 1) / t_new * (new_BF - z_BF), t_new

    start_BF = _zeros(x_BD, W_FD) if start_BF is None else _wide(start_BF)
    first = start_BF, start_BF, jnp.ones((), x_BD.dtype)
    return lax.fori_loop(0, steps, accelerate, first)[0]


def _step(x_BD, W_FD, sparsity, positive, pull):
    weight = 0.0 if pull is None else pull.weight
    L = lipschitz(W_FD) + 2 * weight

    def step(z_BF):
        slope_BF = (z_BF @ W_FD - x_BD) @ W_FD.T
        if pull is not None:
            slope_BF = slope_BF + 2 * weight * (z_BF - pull.towards_BF)
        return soft(z_BF - slope_BF / L, sparsity / L, positive)

    return step


def _zeros(x_BD, W_FD):
    return jnp.zeros((len(x_BD), len(W_FD)), x_BD.dtype)


def _wide(a):
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))
