"""Removes from each atom's gradient its component along the atom: `g_i - <g_i, d_i> d_i / |d_i|^2`.

Source: Bricken et al. 2023, Gao et al. 2024 (A.3). With `normalise_atoms` after the step, Adam's moments
then never hold the part of the gradient that normalising would undo. It stands before clipping.
"""

import jax.numpy as jnp
import optax

KIND = "projection"


def project_gradient(leaf: str = "W_dec_FD") -> optax.GradientTransformation:
    """Acts on the leaf named `leaf`, `[F, D]`, alone, and not at all where there is none."""

    def update(updates, state, params=None):
        assert params is not None, "this rule reads atoms, and must see them"
        if leaf not in params:
            return updates, state
        atoms, gradient = params[leaf], updates[leaf]
        along = jnp.sum(gradient * atoms, -1, keepdims=True)
        square = jnp.sum(atoms**2, -1, keepdims=True)
        projected = gradient - atoms * along / jnp.where(square > 0, square, 1)
        return {**updates, leaf: projected}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
