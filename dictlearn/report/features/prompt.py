"""The prompt view: the latents of each token of a text that somebody types.

A latent's share is that of its events in the cache whose value is at most the one here: 0.99 is a value that
one in a hundred of its events exceeds.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from dictlearn.events import Events
from dictlearn.lm import LM
from dictlearn.lm.cells import group
from dictlearn.runs import on_texts
from dictlearn.runs.trained import Trained

MOST_TOKENS = 1024
MOST_LATENTS = 50
"""The number of latents of a token that are shown, by value."""


class Prompter:
    """Texts -> the latents of their tokens.

    Args:
        lm: the language model.
        dictionary: a dictionary that reads activations of that model alone.
        found: its event cache.
        said: {latent: (its explanation, its score)}.
    """

    def __init__(self, lm: LM, dictionary: Trained, found: Events, said: Mapping[int, tuple]):
        self._lm, self._dictionary, self._found, self._said = lm, dictionary, found, said
        size_E = lambda latent: np.abs(found.of(latent)[1])
        self._sorted = functools.lru_cache(4096)(lambda latent: np.sort(size_E(latent)))

    def __call__(self, text: str) -> dict[str, Any]:
        """The latents of each cell of a text.

        Args:
            text: the text; the separator of documents is put before it.

        Returns:
            {"cells": [{"text", "latents": [{"latent", "value", "share", "explanation"}]}]}, the largest values
            first. A cell of several tokens has the largest value of each latent.

        Raises:
            ValueError: for a text without tokens, or with more than MOST_TOKENS.
        """
        tokens = self._lm.tokenizer.encode(text, add_special_tokens=False).ids
        if not 0 < len(tokens) <= MOST_TOKENS:
            raise ValueError(f"the text has {len(tokens)} tokens; give 1 to {MOST_TOKENS}.")
        val_TF = self.codes(tokens)
        cells = [
            {"text": cell, "latents": self._largest(val_TF[at].max(0))}
            for cell, at in group(self._lm.tokenizer, tokens)
        ]
        return {"cells": cells}

    def codes(self, tokens: list[int]) -> np.ndarray:
        """The magnitudes of all latents on tokens, `[T, F]`."""
        tap = self._found.recipe["tap"]
        return np.abs(on_texts.codes(self._dictionary, self._lm, tap, [tokens])[0])

    def _largest(self, val_F: np.ndarray) -> list[dict[str, Any]]:
        order = np.argsort(-val_F, kind="stable")[:MOST_LATENTS]
        return [self._line(int(i), float(val_F[i])) for i in order if val_F[i] > 0]

    def _line(self, latent: int, value: float) -> dict[str, Any]:
        known = self._sorted(latent)
        share = float(np.searchsorted(known, value, "right") / len(known)) if len(known) else None
        explanation, _ = self._said.get(latent, (None, None))
        return {"latent": latent, "value": value, "share": share, "explanation": explanation}
