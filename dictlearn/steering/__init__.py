"""Steering: interventions on the latents of a dictionary while the model runs, their effect, and generation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dictlearn.lm import LM, Generated, Prompts, generate
from dictlearn.lm import prompts as prompts_of
from dictlearn.runs.trained import Trained
from dictlearn.steering.apply import codes_at_end, edits_of, whole
from dictlearn.steering.intervention import OPS, POSITIONS, VALUED, Intervention, several
from dictlearn.steering.strength import Effect, Unreachable, calibrate, calibrated, effects

__all__ = [
    "OPS",
    "POSITIONS",
    "VALUED",
    "Effect",
    "Intervention",
    "Unreachable",
    "calibrate",
    "calibrated",
    "codes_at_end",
    "edits_of",
    "effects",
    "several",
    "steer",
    "whole",
]


def steer(
    lm: LM,
    dictionary: Trained,
    interventions: Intervention | Sequence[Intervention],
    tokens: Sequence[Sequence[int]] | np.ndarray | Prompts,
    *,
    n_tokens: int,
    strength: float | np.ndarray = 1.0,
    **sampling: Any,
) -> Generated:
    """Continues prompts with interventions on a dictionary.

    Args:
        lm: the language model.
        dictionary: a dictionary that reads one tap and writes one, as its site says.
        interventions: in the order in which they apply.
        tokens: the token ids of each prompt. Their first token does not change unless an intervention says so.
        n_tokens: the number of tokens to generate.
        strength: the value of interventions without one; one number, or one for each prompt (a sweep).
        sampling: temperature, top_k, top_p, seed and stop of `lm.generate`.

    Returns:
        Generated.

    Raises:
        ValueError: for what `edits_of` or `lm.generate` refuses.
    """
    given = tokens if isinstance(tokens, Prompts) else prompts_of(lm, tokens)
    edits = edits_of(lm, dictionary, interventions, given, strength)
    return generate(lm, given, n_tokens=n_tokens, edits=edits, mask_BP=whole(given), **sampling)
