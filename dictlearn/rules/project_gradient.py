"""Removes from each atom's gradient its component along the atom: `g_i - <g_i, d_i> d_i / |d_i|^2`.

`normalise_atoms` after the step would undo this component; without the projection, Adam's moments would hold
it. In a chain it comes before clipping.

Source: Bricken et al. 2023, Gao et al. 2024 (A.3).
"""

import jax.numpy as jnp
import optax

KIND = "projection"


def project_gradient(leaf: str = "W_dec_FD") -> optax.GradientTransformation:
    """The projection. It changes only the gradient of the leaf named `leaf`, `[F, D]`, if there is one."""

    def update(updates, state, params=None):
        assert params is not None, "this rule reads atoms: pass params"
        if leaf not in params:
            return updates, state
        atoms, gradient = params[leaf], updates[leaf]
        along = jnp.sum(gradient * atoms, -1, keepdims=True)
        square = jnp.sum(atoms**2, -1, keepdims=True)
        projected = gradient - atoms * along / jnp.where(square > 0, square, 1)
        return {**updates, leaf: projected}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
