"""Logistic regression of binary labels on one input at a time, for every column of a matrix.

    minimise over w, b    E[ -y log s(w z + b) - (1 - y) log(1 - s(w z + b)) ]         s the logistic function

Newton's method in standardised inputs, damped, with bounded steps and coefficients, so that labels which an
input separates give a finite probe. The best iterate is kept; the first is the constant probe.

Source: Gao et al. 2024 (arXiv:2406.04093), section 4.2, whose code is not released.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

STEPS, _BLOCK = 20, 256
_DAMPING, _LONGEST, _LARGEST = 1e-6, 2.0, 30.0
_LEAST = 1e-6
"""A standard deviation below this share of the largest entry is rounding error."""


class Probes(NamedTuple):
    """The probe `logistic(weight z + bias)` of each column."""

    weight_F: Float[Array, " F"]
    bias_F: Float[Array, " F"]


@jax.jit
def logistic(z_BF: Float[Array, "B F"], label_B: Bool[Array, " B"]) -> Probes:
    """The probes of all columns. Columns are processed in blocks; labels of one value give infinite biases at
    their bound."""
    y_B = label_B.astype(jnp.float32)
    one = lambda z_B: _fit(z_B.astype(jnp.float32), y_B)
    return Probes(*jax.lax.map(one, z_BF.T, batch_size=min(_BLOCK, z_BF.shape[1])))


@jax.jit
def cross_entropy(
    probes: Probes, z_BF: Float[Array, "B F"], label_B: Bool[Array, " B"]
) -> Float[Array, " F"]:
    """The cross-entropy of each probe in nats, on its own column."""
    return _loss(z_BF * probes.weight_F + probes.bias_F, label_B[:, None]).mean(0)


def _loss(logit, y):
    return jax.nn.softplus(logit) - y * logit


def _fit(z_B, y_B):
    mean, spread = z_B.mean(), z_B.std()
    spread = jnp.where(spread > _LEAST * jnp.abs(z_B).max(), spread, jnp.inf)
    u_B = (z_B - mean) / spread
    share = y_B.mean()
    start = jnp.array([0.0, jnp.clip(jnp.log(share / (1 - share)), -_LARGEST, _LARGEST)])
    value = lambda at: _loss(at[0] * u_B + at[1], y_B).mean()

    def step(_, carry):
        at, best, least = carry
        p_B = jax.nn.sigmoid(at[0] * u_B + at[1])
        h_B, r_B = p_B * (1 - p_B), p_B - y_B
        slope = jnp.array([(r_B * u_B).mean(), r_B.mean()])
        a, b, c = (h_B * u_B**2).mean() + _DAMPING, (h_B * u_B).mean(), h_B.mean() + _DAMPING
        move = jnp.array([c * slope[0] - b * slope[1], a * slope[1] - b * slope[0]])
        move = jnp.clip(move / (a * c - b * b), -_LONGEST, _LONGEST)
        at = jnp.clip(at - move, -_LARGEST, _LARGEST)
        now = value(at)
        return at, jnp.where(now < least, at, best), jnp.minimum(now, least)

    _, best, _ = jax.lax.fori_loop(0, STEPS, step, (start, start, value(start)))
    return best[0] / spread, best[1] - best[0] * mean / spread
