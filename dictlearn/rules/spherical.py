"""Spherical steps: every atom moves along the unit sphere; the step does not depend on the gradient's scale.

    g = <grad_i, d_i> d_i + t      d_i <- (d_i - lr t / |<grad_i, d_i>|) / |d_i - lr t / |<grad_i, d_i>||

All other parameters are constant. With lr 1, an atom whose loss falls with its length moves to the direction of
its negative gradient, which is a step of power iteration. An atom without a gradient does not move.

Source: the Modified BA of Chen et al. 2025 (arXiv:2506.14002), theorem 6.1, read at second hand. It is
dictionary `gba` with one group, scale_start near zero, and constant biases (revive `adapt_bias`, both rates 0).

UNSURE: the paper's step size.

Differs: the division by the radial part, which makes the step independent of the scale a -> 0, is ours.
"""

import jax
import jax.numpy as jnp
import optax

from dictlearn.rules._schedules import refuse_rate
from dictlearn.rules.normalise_atoms import normalise_atoms
from dictlearn.types import Scalar

KIND = "optimiser"


def spherical(lr: Scalar = 1.0) -> optax.GradientTransformation:
    """The rule, for W_dec_FD `[F, D]` with unit rows; all other updates are zero. lr: 1 for power iteration.

    Raises ValueError for an lr that is negative or not finite."""
    refuse_rate(lr)

    def update(updates, state, params=None):
        assert params is not None, "this rule moves atoms: pass params"
        atoms_FD, gradient_FD = params["W_dec_FD"], updates["W_dec_FD"]
        radial_F1 = jnp.sum(gradient_FD * atoms_FD, -1, keepdims=True)
        tangent_FD = gradient_FD - radial_F1 * atoms_FD
        size_F1 = jnp.where(radial_F1 == 0, 1, jnp.abs(radial_F1))
        still = jax.tree.map(jnp.zeros_like, updates)
        return {**still, "W_dec_FD": -lr * tangent_FD / size_F1}, state

    stay = lambda params: optax.EmptyState()
    return optax.chain(optax.GradientTransformation(stay, update), normalise_atoms())
