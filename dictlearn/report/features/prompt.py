"""The prompt view: the latents of each token of a text that somebody types.

A latent's share is that of its events in the cache whose value is at most the one here: 0.99 is a value that
one in a hundred of its events exceeds. The effect on the loss is that of `_loss_effects.py`, for one cell of
the text at a time, because the model's unembedding runs for each latent.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dictlearn.analyses import _logits
from dictlearn.analyses._loss_effects import loss_effects
from dictlearn.events import Events
from dictlearn.lm import LM
from dictlearn.lm.cells import group
from dictlearn.lm.generate import prompts
from dictlearn.runs import on_texts
from dictlearn.runs.atoms import atoms
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
        self._signed = functools.lru_cache(1)(self._encoded)

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
        tokens = self._tokens(text)
        val_TF = self.codes(tokens)
        cells = [
            {"text": cell, "latents": self._largest(val_TF[at].max(0))}
            for cell, at in group(self._lm.tokenizer, tokens)
        ]
        return {"cells": cells}

    def effects(self, text: str, at: int) -> dict[str, Any]:
        """How much the loss of the next token would rise without each latent of a cell.

        Args:
            text: the text.
            at: the number of the cell.

        Returns:
            {"effects": {latent: nats}}, of a cell of several tokens their sum. The last token of the text has
            none, because no token follows it.

        Raises:
            ValueError: as for the latents of the text, for a cell that it does not have, and for a dictionary
                whose atoms do not reach the residual stream.
        """
        tokens = self._tokens(text)
        cells = group(self._lm.tokenizer, tokens)
        if not 0 <= at < len(cells):
            raise ValueError(f"{at=} must be one of the {len(cells)} cells of the text, from 0.")
        if self._written_FD is None:
            raise ValueError("these atoms do not reach the residual stream; order by value.")
        latent_P, t_P, val_P = self._pairs(tokens, cells[at][1])
        tokens_1P = np.asarray(prompts(self._lm, [[self._lm.separator, *tokens]]).tokens_BP)
        found = loss_effects(self._lm, tokens_1P, latent_P, t_P + 1, val_P, self._written_FD)
        total = dict.fromkeys(latent_P.tolist(), 0.0)
        for latent, effect in zip(latent_P.tolist(), found.tolist(), strict=True):
            total[latent] += effect
        return {"effects": total}

    def _pairs(self, tokens: list[int], at: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(latent_P, t_P, val_P) of the latents that a cell shows, at its tokens with a next one."""
        val_TF = self._signed(tuple(tokens))
        shown = np.argsort(-np.abs(val_TF[at]).max(0), kind="stable")[:MOST_LATENTS]
        t_T = np.arange(*at.indices(len(tokens) - 1))
        row_P, column_P = np.nonzero(val_TF[t_T][:, shown])
        latent_P, t_P = shown[column_P], t_T[row_P]
        return latent_P, t_P, val_TF[t_P, latent_P]

    @property
    def answers(self) -> dict[str, Callable[[Mapping[str, str]], dict[str, Any]]]:
        """{path: the fields of a request -> its answer}, for `server`."""
        return {
            "/prompt.json": lambda asked: self(asked.get("text", "")),
            "/effects.json": lambda asked: self.effects(asked.get("text", ""), _number(asked)),
        }

    @functools.cached_property
    def _written_FD(self) -> np.ndarray | None:
        target = self._dictionary.sites[0].target if self._dictionary.sites else ()
        return _logits.in_stream(self._lm, target, atoms(self._dictionary))

    def _tokens(self, text: str) -> list[int]:
        tokens = self._lm.tokenizer.encode(text, add_special_tokens=False).ids
        if not 0 < len(tokens) <= MOST_TOKENS:
            raise ValueError(f"the text has {len(tokens)} tokens; give 1 to {MOST_TOKENS}.")
        return tokens

    def codes(self, tokens: list[int]) -> np.ndarray:
        """The magnitudes of all latents on tokens, `[T, F]`."""
        return np.abs(self._signed(tuple(tokens)))

    def _encoded(self, tokens: tuple[int, ...]) -> np.ndarray:
        tap = self._found.recipe["tap"]
        return on_texts.codes(self._dictionary, self._lm, tap, [tokens])[0]

    def _largest(self, val_F: np.ndarray) -> list[dict[str, Any]]:
        order = np.argsort(-val_F, kind="stable")[:MOST_LATENTS]
        return [self._line(int(i), float(val_F[i])) for i in order if val_F[i] > 0]

    def _line(self, latent: int, value: float) -> dict[str, Any]:
        known = self._sorted(latent)
        share = float(np.searchsorted(known, value, "right") / len(known)) if len(known) else None
        explanation, _ = self._said.get(latent, (None, None))
        return {"latent": latent, "value": value, "share": share, "explanation": explanation}


def _number(asked: Mapping[str, str]) -> int:
    at = asked.get("at", "")
    if not at.isdecimal():
        raise ValueError(f"{at=} must be the number of a cell of the text, from 0.")
    return int(at)
