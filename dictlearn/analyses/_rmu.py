"""Representation misdirection (RMU): the baseline of `unlearning` that trains the model.

    loss = mean over forget tokens |h - c u|^2 + alpha mean over retain tokens |h - h_0|^2

h is the activation at the tap, h_0 that of the model before, u a random unit direction. Trained are the outputs
of the MLPs of the tap's block and of the two below.

Source: Li et al. 2024 (arXiv:2403.03218).
Differs: c is a multiple of the mean length of h_0 on the forget text, as a published c suits one model. Adam,
without decay of weights; u is Gaussian.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dictlearn import steering
from dictlearn.lm import LM, Prompts
from dictlearn.runs import on_texts

_BATCH = 8
_BLOCKS = 3
_LEAF = "W_down_MD"


class How(NamedTuple):
    """How the model is trained. coefficients: c, in mean lengths. The fields are settings of the analysis."""

    coefficients: tuple[float, ...] = (2.0, 6.0)
    alpha: float = 100.0
    lr: float = 5e-5
    steps: int = 150

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "How":
        """The settings with defaults. Raises ValueError for an unknown one, and for one out of bounds."""
        if unknown := sorted(set(given) - set(cls._fields)):
            raise ValueError(f"rmu has no {unknown[0]!r}; there are {', '.join(cls._fields)}.")
        found = cls(**given)
        if min((found.alpha, found.lr, found.steps, *found.coefficients), default=0) <= 0:
            raise ValueError(f"rmu={dict(given)} must have positive numbers.")
        return found._replace(coefficients=tuple(found.coefficients))


def misdirected(
    lm: LM, tap: str, forget: Prompts, retain: Prompts, how: How, coefficient: float, seed: int
) -> LM:
    """The model after training.

    Args:
        lm: the model, a decoder.
        tap: the tap, of one block.
        forget, retain: pieces of the two texts.
        how: how it is trained.
        coefficient: c, in mean lengths of the activation on the forget text.
        seed: the seed of the direction and of the batches.

    Returns:
        The model with other parameters.
    """
    random = np.random.default_rng(seed)
    layer = int(tap.rsplit(".", 1)[1])
    own = {
        name: lm.params[name][_LEAF]
        for name in (f"block_{i}" for i in range(max(layer + 1 - _BLOCKS, 0), layer + 1))
    }
    x_BTD = on_texts.activations(lm, [tap], some(forget, np.arange(_BATCH)).tokens_BP)
    u_D = random.normal(size=x_BTD.shape[-1])
    length = float(jnp.linalg.norm(x_BTD[:, 1:], axis=-1).mean())
    to_D = jnp.asarray(coefficient * length * u_D / np.linalg.norm(u_D), jnp.float32)
    state = optax.adam(how.lr).init(own)
    for _ in range(how.steps):
        pieces = [
            some(of, random.integers(len(of.length_B), size=_BATCH)) for of in (forget, retain)
        ]
        given = [(each.tokens_BP, _counted(each)) for each in pieces]
        own, state = _step(lm.forward, tap, how, lm.params, own, state, to_D, *given)
    return dataclasses.replace(lm, params=_merged(lm.params, own))


def some(of: Prompts, chosen: np.ndarray) -> Prompts:
    """Some prompts, again from the first one after the last."""
    return Prompts(*(a[chosen % len(a)] for a in of))


def _counted(prompts: Prompts) -> np.ndarray:
    """The tokens that are no padding, without the first."""
    mask_BP = steering.whole(prompts)
    mask_BP[:, 0] = False
    return mask_BP


def _merged(params: Mapping[str, Any], own: Mapping[str, jax.Array]) -> dict[str, Any]:
    return {**params, **{name: {**params[name], _LEAF: leaf} for name, leaf in own.items()}}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step(forward, tap: str, how: How, params, own, state, to_D, forget, retain):
    """(the trained leaves, the optimiser's state) after a batch. forget, retain: (tokens, which count)."""
    read = lambda params, tokens_BT: forward(params, tokens_BT)[1][tap].astype(jnp.float32)
    far = lambda a_BTD, b_BTD, mask_BT: (
        jnp.where(mask_BT, ((a_BTD - b_BTD) ** 2).sum(-1), 0).sum() / mask_BT.sum()
    )

    def loss(own):
        now = _merged(params, own)
        kept = far(read(now, retain[0]), read(params, retain[0]), retain[1])
        return far(read(now, forget[0]), to_D, forget[1]) + how.alpha * kept

    change, state = optax.adam(how.lr).update(jax.grad(loss)(own), state)
    return optax.apply_updates(own, change), state
