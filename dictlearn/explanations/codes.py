"""A latent's activations on any texts: the model runs, and the dictionary encodes what it reads."""

from collections.abc import Sequence

import numpy as np

from dictlearn.explanations.case import Codes
from dictlearn.lm import LM
from dictlearn.runs import on_texts
from dictlearn.runs.trained import Trained

_BATCH = 32


def codes_of(dictionary: Trained, lm: LM, tap: Sequence[str], latent: int) -> Codes:
    """The activations of a latent as a function of texts.

    Args:
        dictionary: the dictionary.
        lm: the model that it reads.
        tap: the taps that it reads, concatenated.
        latent: the latent.

    Returns:
        A function from texts, as tokens, to the latent's magnitude on each token, 0 on separators.
    """

    def some(texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
        full = [*texts, *[texts[-1]] * (_BATCH - len(texts))]  # One shape for all batches.
        found = on_texts.codes(dictionary, lm, tap, full)[: len(texts)]
        size = lambda val_TF, text: np.where(
            np.equal(text, lm.separator), 0, np.abs(val_TF[:, latent])
        )
        return [size(*pair) for pair in zip(found, texts, strict=True)]

    cut = lambda texts: (texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH))
    return lambda texts: [one for part in cut(texts) for one in some(part)]
