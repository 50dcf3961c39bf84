"""A latent's activations on any texts: the model runs, and the dictionary encodes what it reads.

Each text gets the separator in front, which is not reported: the activations of a first token are unlike all
others, and no event cache holds them.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.explanations.case import Codes
from dictlearn.lm import LM
from dictlearn.lm.generate import prompts
from dictlearn.lm.splice import side_by_side
from dictlearn.ops.firing import dense
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
        tokens_BT = prompts(lm, [[lm.separator, *text] for text in full]).tokens_BP
        x_BTD = _read(lm.forward, tuple(tap), lm.params, tokens_BT)
        codes = dictionary.encode(x_BTD.reshape(-1, x_BTD.shape[-1]))
        val_U = np.abs(dense(codes, dictionary.module.n_latents)[:, latent])
        val_BT = np.where(tokens_BT == lm.separator, 0, val_U.reshape(tokens_BT.shape))
        return [val_T[1 : 1 + len(text)] for val_T, text in zip(val_BT, texts, strict=False)]

    cut = lambda texts: (texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH))
    return lambda texts: [one for part in cut(texts) for one in some(part)]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _read(forward, tap: tuple[str, ...], params, tokens_BT) -> jax.Array:
    return side_by_side(forward(params, tokens_BT)[1], tap).astype(jnp.float32)
