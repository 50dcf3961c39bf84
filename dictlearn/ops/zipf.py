"""Zipf's law of latent densities: the fit, the latents below it, and token quotas in proportion to it.

    p_r = scale (r + shift)^-alpha      r = 1 .. F, the rank of a latent by density

Source: Ayonrinde 2024 (arXiv:2411.02124).

UNSURE, because we could not verify the paper's fit and its definition of an under-used latent. Ours:
least squares of log p on log(r + shift), with the shift of smallest error among SHIFTS, over the positive
densities except the lowest tenth of them. A latent is under-used below `margin` times the law.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dictlearn.types import Scalar

SHIFTS = (0, 1, 2, 4, 8, 16, 32)


class Zipf(NamedTuple):
    """alpha >= 0, shift and log scale of the law, all scalars."""

    alpha: Array
    shift: Array
    log_scale: Array


def fit(density_F: Float[Array, " F"], keep: float = 0.9) -> Zipf:
    """The law fitted to these densities, in any order. keep: the share of the positive densities, from the
    largest, that is fitted. The law is flat where fewer than two are positive."""
    p_R = jnp.sort(density_F)[::-1]
    rank_R = jnp.arange(1, len(p_R) + 1)
    used_R = (p_R > 0) & (rank_R <= jnp.ceil(keep * jnp.sum(p_R > 0)))
    log_p_R = jnp.log(jnp.where(p_R > 0, p_R, 1))
    mean = lambda x_R: jnp.sum(jnp.where(used_R, x_R, 0)) / jnp.maximum(used_R.sum(), 1)
    found = []
    for shift in SHIFTS:
        log_r_R = jnp.log(rank_R + shift)
        r_R, q_R = log_r_R - mean(log_r_R), log_p_R - mean(log_p_R)
        spread = mean(r_R**2)
        slope = jnp.minimum(mean(r_R * q_R) / jnp.where(spread > 0, spread, 1), 0)
        law = (-slope, jnp.float32(shift), mean(log_p_R) - slope * mean(log_r_R))
        found.append((mean((q_R - slope * r_R) ** 2), *law))
    error, *laws = (jnp.stack(each) for each in zip(*found, strict=True))
    return Zipf(*(law[error.argmin()] for law in laws))


def curve(law: Zipf, n: int) -> Float[Array, " n"]:
    """The densities of ranks 1 .. n."""
    return jnp.exp(law.log_scale - law.alpha * jnp.log(jnp.arange(1, n + 1) + law.shift))


def ranks(size_F: Float[Array, " F"]) -> Int[Array, " F"]:
    """Ranks, 0 for the largest; equal values in the order of their indices."""
    return jnp.argsort(jnp.argsort(-size_F))


def underused(density_F: Float[Array, " F"], margin: Scalar = 0.5) -> Bool[Array, " F"]:
    """True for latents with a density below `margin` times the law at their rank; none where all are zero."""
    law_F = curve(fit(density_F), len(density_F))[ranks(density_F)]
    return (density_F < margin * law_F) & jnp.any(density_F > 0)


def quotas(weight_R: Float[Array, " R"], total) -> Int[Array, " R"]:
    """Integers in proportion to `weight_R` that sum to `total`, all at least 1 where `total` allows it."""
    n = len(weight_R)
    floor = jnp.minimum(total / n, 1.0)
    share_R = floor + weight_R / weight_R.sum() * (total - floor * n)
    upto_R = jnp.round(jnp.cumsum(share_R)).at[-1].set(total).astype(jnp.int32)
    return jnp.diff(upto_R, prepend=0)
