"""What the model says where something that its MLPs wrote is taken out.

    y_l <- y_l - r_l        at every MLP output l, r_l what some latents and errors wrote there

The model is as it is: patterns, denominators and later MLPs answer. Without a latent it says what `intervene`
says where the latent is set to 0 and nothing is held; one program serves latents and errors of all layers.

Source: Kissane et al. 2024 (arXiv:2406.17759): latents are set to zero and the error is kept.

Axes: A runs, K tokens whose logits are wanted; the others as in `local`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from dictlearn.circuits._places import WRITES
from dictlearn.circuits.local import Local
from dictlearn.lm import decoder

_RUNS = 16
"""Runs of one pass."""


class Written(NamedTuple):
    """What is taken out together. latents_X: latents, by their indices. errors_T: at which tokens the errors of
    all layers are."""

    latents_X: Int[np.ndarray, " X"]
    errors_T: Bool[np.ndarray, " T"]


def removed(
    local: Local, asked: Sequence[Written], tokens_K: Int[np.ndarray, " K"]
) -> Float[np.ndarray, "A K"]:
    """The logits after the last token of a prompt, with something taken out.

    Args:
        local: the local replacement model of the prompt.
        asked: what is taken out in each run.
        tokens_K: the tokens whose logits are wanted.

    Returns:
        Their logits in each run.
    """
    spec, params, tokens_T = local.lm.spec, local.lm.params, jnp.asarray(local.tokens_T)
    found = []
    for start in range(0, len(asked), _RUNS):
        own = asked[start : start + _RUNS]
        away_ALTD = np.zeros((_RUNS, *local.errors_LTD.shape), local.errors_LTD.dtype)
        away_ALTD[: len(own)] = [_vectors(local, one) for one in own]
        logits_AK = _said(spec, params, tokens_T, away_ALTD, jnp.asarray(tokens_K))
        found.append(np.asarray(logits_AK)[: len(own)])
    return np.concatenate([np.zeros((0, len(tokens_K)), local.errors_LTD.dtype), *found])


def _vectors(local: Local, one: Written) -> np.ndarray:
    """r."""
    away_LTD = np.where(one.errors_T[:, None], local.errors_LTD, 0)
    for layer, (own, atoms_ND) in local.atoms.items():
        on_N = np.isin(own, one.latents_X)
        at = own[on_N]
        vectors_XD = local.values_N[at, None] * atoms_ND[on_N]
        np.add.at(away_LTD[layer], local.latents_N3[at, 1], vectors_XD)
    return away_LTD


@functools.partial(jax.jit, static_argnums=0)
def _said(spec, params, tokens_T, away_ALTD, tokens_K) -> jax.Array:
    less = lambda layer: lambda y_ATD, *_: y_ATD - away_ALTD[:, layer]
    edits = {f"{WRITES}.{layer}": less(layer) for layer in range(spec.n_layers)}
    tokens_AT = jnp.broadcast_to(tokens_T, (len(away_ALTD), len(tokens_T)))
    return decoder.forward(spec, params, tokens_AT, edits)[0][:, -1][:, tokens_K]
