"""Pushes of a dictionary that writes several taps: a crosscoder, or a cross-layer transcoder.

    y_l <- y_l + sum_i v_i w_i^l        at every tap l that the dictionary writes

w_i^l is the part of latent i's atom at tap l. No latent is encoded, because "add" does not read its value: the
taps that the codes are read from come after the first tap that changes. The other ops are therefore refused.

Source: interventions on cross-layer transcoders of Ameisen et al. 2025, "Circuit tracing", which change every
layer that a feature writes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from dictlearn import normalise
from dictlearn.lm import Edits, Prompts
from dictlearn.runs.atoms import atoms_of
from dictlearn.runs.trained import Trained
from dictlearn.steering.intervention import Intervention
from dictlearn.steering.tokens import changed, changed_later


def writes_several(dictionary: Trained) -> bool:
    """Whether a dictionary of one model writes several taps."""
    return len(dictionary.sites) == 1 and len(dictionary.sites[0].target) > 1


def pushes(
    dictionary: Trained,
    chosen: Sequence[Intervention],
    prompts: Prompts,
    strength_B: np.ndarray,
) -> Edits:
    """The edits that add to latents, at every tap that they write.

    Args:
        dictionary: a dictionary that writes several taps, side by side.
        chosen: the interventions.
        prompts: the prompts, for the tokens that change.
        strength_B: the value of interventions without one.

    Returns:
        Edits.

    Raises:
        ValueError: for another op than "add" on latents, an error that goes, and a normalisation per token.
    """
    taps = dictionary.sites[0].target
    _refuse(dictionary, chosen)
    parts = [_parts(dictionary, one, len(taps), strength_B) for one in chosen]

    def phase(masks: Sequence[np.ndarray]) -> dict[str, Any]:
        if not any(mask.any() for mask in masks):
            return {}
        own = lambda at: [(mask, part[at]) for mask, part in zip(masks, parts, strict=True)]
        return {tap: Partial(_pushed, own(at)) for at, tap in enumerate(taps)}

    return Edits(
        phase([changed(one, prompts) for one in chosen]),
        phase([changed_later(one, prompts) for one in chosen]),
    )


def _refuse(dictionary: Trained, chosen: Sequence[Intervention]) -> None:
    where = f"{dictionary.name!r} writes {', '.join(dictionary.sites[0].target)}"
    for one in chosen:
        if one.op != "add" or not one.latents or not one.error:
            raise ValueError(
                f"{where}; of the interventions only 'add' on latents, with the error kept, changes several "
                f"taps at once, not {one.told()}."
            )
    if dictionary.norm.kind in normalise.TOKEN_KINDS:
        raise ValueError(f"{where} under {dictionary.norm.kind}, so its atoms differ by token.")


def _parts(
    dictionary: Trained, one: Intervention, n_taps: int, strength_B: np.ndarray
) -> list[np.ndarray]:
    """What an intervention adds at each tap, `[1 or B, 1, D]`."""
    value = strength_B[:, None] if one.value is None else np.atleast_2d(one.value)
    value_Bn = np.broadcast_to(value, (len(value), len(one.latents))).astype(np.float32)
    return np.split((value_Bn @ atoms_of(dictionary, one.latents))[:, None], n_taps, axis=-1)


def _pushed(parts: list, y_BTD: jax.Array, mask_BT: jax.Array, taps: Mapping) -> jax.Array:
    """The edit of one tap. parts: (the tokens that change, what is added) of each intervention."""
    wide = y_BTD.astype(jnp.promote_types(y_BTD.dtype, jnp.float32))
    new_BTD = wide
    for own_BT, part in parts:
        new_BTD = new_BTD + jnp.where((mask_BT & own_BT)[..., None], part, 0)
    # A sum with 0.0 would change the sign of -0.0.
    return jnp.where(new_BTD == wide, y_BTD, new_BTD.astype(y_BTD.dtype))
