"""Shared by the rules that reinitialise latents: replace rows, and clear their moments."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from dictlearn.rules._points import is_point


def require(rule: str, params: dict, leaves: tuple[str, ...]) -> None:
    """Raises ValueError if the variant lacks one of `leaves`."""
    lacking = [leaf for leaf in leaves if leaf not in params]
    if lacking:
        raise ValueError(
            f"rule {rule} reinitialises latents in {', '.join(leaves)}, and this dictionary has no "
            f"{', '.join(lacking)}; leave config.revive out."
        )


def replace(chosen_F: Bool[Array, " F"], fresh: dict, updates: dict, params: dict, inner_state):
    """(updates, inner_state) that set the chosen latents to `fresh` and their moments to zero.

    Moments are the leaves of the wrapped rule's state with the name of a replaced parameter. Leaves that hold
    parameters instead (`_points`) are set to `fresh` too."""
    rows = lambda leaf: chosen_F.reshape(chosen_F.shape + (1,) * (leaf.ndim - 1))
    updates = dict(updates)
    for leaf, new in fresh.items():
        updates[leaf] = jnp.where(rows(new), new - params[leaf], updates[leaf])

    def cleared(path, leaf):
        name = getattr(path[-1], "key", None) if path else None
        if name not in fresh:
            return leaf
        return jnp.where(rows(leaf), fresh[name] if is_point(path) else 0, leaf)

    return updates, jax.tree_util.tree_map_with_path(cleared, inner_state)
