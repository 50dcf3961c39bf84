"""Makes the updated atoms unit rows: the update becomes `(d + u) / |d + u| - d`.

Source: Bricken et al. 2023; Gao et al. 2024 (A.3). It stands last in a chain.
"""

import jax.numpy as jnp
import optax

KIND = "projection"


def normalise_atoms(leaf: str = "W_dec_FD") -> optax.GradientTransformation:
    """Acts on the leaf named `leaf`, `[F, D]`, alone, and not at all where there is none; a row that
    would be zero is left as updated."""

    def update(updates, state, params=None):
        assert params is not None, "this rule moves atoms, and must see them"
        if leaf not in params:
            return updates, state
        moved = params[leaf] + updates[leaf]
        norm = jnp.linalg.norm(moved, axis=-1, keepdims=True)
        return {**updates, leaf: moved / jnp.where(norm > 0, norm, 1) - params[leaf]}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
