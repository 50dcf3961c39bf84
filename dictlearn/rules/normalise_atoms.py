"""Makes the updated atoms unit rows: the update becomes `(d + u) / |d + u| - d`.

Source: Bricken et al. 2023; Gao et al. 2024 (A.3). It is the last rule of a chain.
"""

from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

KIND = "projection"


class State(NamedTuple):
    """held: the leaf whose rows have unit norm, for `_points.evaluated`, which makes other parameters."""

    held: dict[str, optax.EmptyState]


def normalise_atoms(leaf: str = "W_dec_FD") -> optax.GradientTransformation:
    """The projection. It changes only the leaf named `leaf`, `[F, D]`, if there is one. A row that the update
    makes zero stays zero."""

    def init(params):
        return State({leaf: optax.EmptyState()} if leaf in params else {})

    def update(updates, state, params=None):
        assert params is not None, "this rule moves atoms: pass params"
        if leaf not in params:
            return updates, state
        moved = params[leaf] + updates[leaf]
        return {**updates, leaf: unit(moved) - params[leaf]}, state

    return optax.GradientTransformation(init, update)


def unit(rows_FD: Float[Array, "*N F D"]) -> Float[Array, "*N F D"]:
    """Rows of unit norm; a zero row stays zero."""
    norm_F1 = jnp.linalg.norm(rows_FD, axis=-1, keepdims=True)
    return rows_FD / jnp.where(norm_F1 > 0, norm_F1, 1)
