"""How far interventions move the predictions of a model, and the strength that moves them by a given amount.

    KL = mean over the changed tokens of sum_v p(v) log(p(v) / q(v))

p is the model's prediction of the next token, and q that of the model with the interventions.

Source: the intervention scorer of Paulo et al. 2024 (arXiv:2410.13928) calibrates steering by the KL.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.lm import LM, Prompts
from dictlearn.runs.trained import Trained
from dictlearn.steering.apply import edits_of, whole
from dictlearn.steering.intervention import VALUED, Intervention, several
from dictlearn.steering.tokens import changed

LOW, HIGH = 1e-3, 1e4
"""The range of strengths that are tried."""
STEPS = 20
_EACH = 8
"""Prompts that are read at once."""


class Unreachable(ValueError):
    """No strength gives the KL."""


class Effect(NamedTuple):
    """What interventions do to the predictions on the changed tokens.

    Args:
        strength: the strength.
        kl: the mean KL in nats.
        gain_V: the mean change of the probability of each token of the vocabulary.

    Example:
        >>> Effect(1.0, 0.5, np.array([-0.2, 0.3, -0.1])).raised(1)
        [(1, 0.3)]
    """

    strength: float
    kl: float
    gain_V: np.ndarray

    def raised(self, n: int = 5) -> list[tuple[int, float]]:
        """(token, gain) of the `n` tokens whose probability grows most, the largest gain first."""
        order = np.argsort(-self.gain_V, kind="stable")[:n]
        return [(int(token), float(self.gain_V[token])) for token in order]


def effects(
    lm: LM,
    dictionary: Trained,
    interventions: Intervention | Sequence[Intervention],
    prompts: Prompts,
    strengths: Iterable[float],
) -> list[Effect]:
    """The effect of interventions at several strengths.

    Args:
        lm: the language model.
        dictionary: the dictionary.
        interventions: those without a value take the strength.
        prompts: the texts on which predictions are compared.
        strengths: the strengths.

    Returns:
        An Effect for each strength.

    Raises:
        ValueError: where no token of a prompt changes, and for what `edits_of` refuses.
    """
    chosen = several(interventions)
    counted_BP = functools.reduce(np.logical_or, [changed(one, prompts) for one in chosen])
    if not counted_BP.any():
        raise ValueError(
            "No token of the prompts changes, so there is no KL; use positions that a prompt has, and "
            "prompts of two tokens or more."
        )
    measure = functools.partial(_effect, lm, dictionary, chosen, prompts, counted_BP)
    return [measure(float(strength)) for strength in strengths]


def _effect(
    lm: LM,
    dictionary: Trained,
    chosen: tuple[Intervention, ...],
    prompts: Prompts,
    counted_BP: np.ndarray,
    strength: float,
) -> Effect:
    """The effect at one strength, in passes of _EACH prompts."""
    kl, gain_V = 0.0, np.zeros(lm.spec.vocab)
    for start in range(0, len(prompts.length_B), _EACH):
        rows = slice(start, start + _EACH)
        part = Prompts(prompts.tokens_BP[rows], prompts.length_B[rows])
        edits = edits_of(lm, dictionary, chosen, part, strength).prompt
        inputs = part.tokens_BP, whole(part), counted_BP[rows]
        sums = _compared(lm.forward, lm.params, edits, *inputs)
        kl, gain_V = kl + float(sums[0]), gain_V + np.asarray(sums[1], np.float64)
    return Effect(strength, kl / counted_BP.sum(), gain_V / counted_BP.sum())


def calibrate(
    kl_at: Callable[[float], float], target: float, tolerance: float = 0.1
) -> tuple[float, float]:
    """The smallest strength, up to the grid, whose KL is the target.

    The strengths 10^-3, 10^-2, ..., 10^4 are tried until one exceeds the target; then the logarithm of the
    strength is bisected.

    Args:
        kl_at: the KL at a strength.
        target: the KL in nats.
        tolerance: how far the KL may be from the target, as a share of it.

    Returns:
        (the strength, its KL).

    Raises:
        Unreachable: a ValueError, for a target that no strength gives.
        ValueError: for a target that is not positive.

    Example:
        >>> strength, kl = calibrate(lambda strength: strength**2, 0.5)
        >>> abs(kl - 0.5) < 0.05
        True
    """
    if not 0 < target < math.inf or not 0 < tolerance < 1:
        raise ValueError(f"{target=} must be positive and finite, and {tolerance=} in (0, 1).")
    near = lambda kl: abs(kl - target) <= tolerance * target
    below, tried = math.log10(LOW), []
    for power in range(int(math.log10(LOW)), int(math.log10(HIGH)) + 1):
        tried.append((kl_at(10.0**power), 10.0**power))
        if near(tried[-1][0]):
            return tried[-1][1], tried[-1][0]
        if tried[-1][0] > target:
            break
        below = power
    else:
        most, at = max(tried)
        raise Unreachable(
            f"No strength from {LOW:g} to {HIGH:g} gives a KL of {target:g} nats; the largest is {most:.3g}, "
            f"at {at:g}. Ask for less, change more tokens, or take another latent."
        )
    return _bisected(kl_at, target, near, below, math.log10(tried[-1][1]))


def _bisected(kl_at: Callable, target: float, near: Callable, low: float, high: float):
    """(strength, KL) between two powers of ten."""
    kl = math.nan
    for _ in range(STEPS):
        middle = (low + high) / 2
        kl = kl_at(10.0**middle)
        if near(kl):
            return 10.0**middle, kl
        low, high = (middle, high) if kl < target else (low, middle)
    raise Unreachable(
        f"The KL jumps over {target:g} nats near the strength {10.0**high:.6g} (it is {kl:.3g} there); ask for "
        "another KL."
    )


def calibrated(
    lm: LM,
    dictionary: Trained,
    interventions: Intervention | Sequence[Intervention],
    prompts: Prompts,
    target: float,
    tolerance: float = 0.1,
) -> Effect:
    """The effect of interventions at the strength that gives a KL.

    Args:
        lm: the language model.
        dictionary: the dictionary.
        interventions: those without a value take the strength.
        prompts: the texts on which predictions are compared.
        target: the KL in nats.
        tolerance: as in `calibrate`.

    Returns:
        An Effect.

    Raises:
        ValueError: for interventions that all have values, and as `calibrate` and `effects` do.
    """
    if not any(one.op in VALUED and one.value is None for one in several(interventions)):
        raise ValueError("Every intervention has a value; leave out the one that is calibrated.")
    measure = functools.partial(effects, lm, dictionary, interventions, prompts)
    at = functools.cache(lambda strength: measure([strength])[0])
    strength, _ = calibrate(lambda strength: at(strength).kl, target, tolerance)
    return at(strength)


@functools.partial(jax.jit, static_argnames="forward")
def _compared(forward: Callable, params, edits, tokens_BP, mask_BP, counted_BP):
    """(the sum of the KL, the sum of the gains of every token) over the counted tokens."""
    clean_BPV, steered_BPV = (
        jax.nn.log_softmax(forward(params, tokens_BP, put, mask_BP)[0]) for put in ({}, edits)
    )
    ratio_BPV = jnp.exp(clean_BPV) * (clean_BPV - steered_BPV)
    gain_BPV = jnp.exp(steered_BPV) - jnp.exp(clean_BPV)
    kl_BP = jnp.where(counted_BP, ratio_BPV.sum(-1), 0)
    return kl_BP.sum(), jnp.where(counted_BP[..., None], gain_BPV, 0).sum((0, 1))
