"""What a scorer gets, and what it gives: a case, a plan of requests, and a score."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictlearn.explanations.client import Reply, Request
from dictlearn.explanations.samples import Sample
from dictlearn.lm import LM
from dictlearn.runs.trained import Trained


class InModel(NamedTuple):
    """A dictionary in its model. tap: the taps that it reads, concatenated."""

    dictionary: Trained
    lm: LM
    tap: Sequence[str]


class Case(NamedTuple):
    """One latent with its explanation.

    Args:
        latent: the latent.
        explanation: its description; "" for a scorer that reads none.
        sample: its windows.
        seed: of the draws of scorers, which are functions of (seed, latent).
        given: what a scorer needs of the model, by the names in its NEEDS; see `scorers.given`.

    Example:
        >>> Case(7, "cats", Sample([], [], [], [], 1.0)).random().integers(100) < 100
        True
    """

    latent: int
    explanation: str
    sample: Sample
    seed: int = 22
    given: Mapping[str, Any] = {}

    def random(self) -> np.random.Generator:
        """A generator, which depends on the seed and the latent alone."""
        return np.random.default_rng((self.seed, self.latent))

    def need(self, name: str) -> Any:
        """What was given by that name. Raises ValueError if it was not."""
        if name not in self.given:
            raise ValueError(
                f"the case of latent {self.latent} has no {name}, which is made from the model; "
                "`scorers.given` makes it."
            )
        return self.given[name]


class Score(NamedTuple):
    """A score. value: the one to compare latents by; NaN where it is not defined. values: all."""

    value: float
    values: Mapping[str, Any]


class Plan(NamedTuple):
    """requests: what to ask. result: the score of the replies, in the same order. prompt: its label."""

    requests: list[Request]
    result: Callable[[Sequence[Reply]], Score]
    prompt: str = ""
