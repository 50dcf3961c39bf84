"""A latent's activations on any texts: the model runs, and the dictionary encodes what it reads."""

from collections.abc import Callable, Sequence

import numpy as np

from dictlearn.explanations.case import InModel
from dictlearn.runs import on_texts

Codes = Callable[[Sequence[Sequence[int]]], list[np.ndarray]]
"""Texts as tokens -> the latent's magnitude on each of their tokens."""
_BATCH = 32


def codes_of(model: InModel, latent: int) -> Codes:
    """The activations of a latent as a function of texts.

    Args:
        model: the dictionary in its model.
        latent: the latent.

    Returns:
        A function from texts, as tokens, to the latent's magnitude on each token, 0 on separators.
    """
    dictionary, lm, tap = model

    def some(texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
        full = [*texts, *[texts[-1]] * (_BATCH - len(texts))]  # One shape for all batches.
        found = on_texts.codes(dictionary, lm, tap, full)[: len(texts)]
        size = lambda val_TF, text: np.where(
            np.equal(text, lm.separator), 0, np.abs(val_TF[:, latent])
        )
        return [size(*pair) for pair in zip(found, texts, strict=True)]

    cut = lambda texts: (texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH))
    return lambda texts: [one for part in cut(texts) for one in some(part)]


def separator_of(model: InModel, latent: int) -> int:
    """The separator of documents, on which no activation is counted.

    Args:
        model: the dictionary in its model.
        latent: any latent.

    Returns:
        The token.
    """
    return model.lm.separator
