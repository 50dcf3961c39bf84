"""What a scorer gets, and what it gives: a case, a plan of requests, and a score."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictlearn.explanations.client import Reply, Request
from dictlearn.explanations.samples import Sample

Codes = Callable[[Sequence[Sequence[int]]], list[np.ndarray]]
"""Texts as tokens -> the latent's magnitude on each of their tokens."""
Steered = Callable[[Sequence[Sequence[int]], int, float, int], list[tuple[str, str]]]
"""(prompts as tokens, number of tokens, KL, seed) -> each prompt with its continuation, without a push of the
latent and with it."""


class Case(NamedTuple):
    """One latent with its explanation.

    Args:
        latent: the latent.
        explanation: its description; "" for a scorer that reads none.
        sample: its windows.
        seed: of the draws of scorers, which are functions of (seed, latent).
        codes: the latent's activations on any text; None where the model is not at hand.
        steered: the model's continuations while the latent is pushed; None where the model is not at hand.
        pad: the token that replaces others in texts for `codes`.

    Example:
        >>> Case(7, "cats", Sample([], [], [], [], 1.0)).random().integers(100) < 100
        True
    """

    latent: int
    explanation: str
    sample: Sample
    seed: int = 22
    codes: Codes | None = None
    steered: Steered | None = None
    pad: int = 0

    def random(self) -> np.random.Generator:
        """A generator, which depends on the seed and the latent alone."""
        return np.random.default_rng((self.seed, self.latent))


class Score(NamedTuple):
    """A score. value: the one to compare latents by; NaN where it is not defined. values: all."""

    value: float
    values: Mapping[str, Any]


class Plan(NamedTuple):
    """requests: what to ask. result: the score of the replies, in the same order. prompt: its label."""

    requests: list[Request]
    result: Callable[[Sequence[Reply]], Score]
    prompt: str = ""
