"""The codes of a dictionary on texts: the model runs, and the dictionary encodes what it reads."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from dictlearn.lm import LM
from dictlearn.lm.generate import prompts
from dictlearn.lm.splice import side_by_side
from dictlearn.ops.firing import dense
from dictlearn.runs.trained import Trained


def codes(
    dictionary: Trained, lm: LM, tap: Sequence[str], texts: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """The codes of a dictionary on texts. Each text gets the separator of documents in front, which is not
    reported: the activations of a first token are unlike all others.

    Args:
        dictionary: the dictionary.
        lm: the model that it reads.
        tap: the taps that it reads, concatenated.
        texts: the tokens of each text. As many texts of similar lengths share a program.

    Returns:
        The codes of each text, `[T, F]`.
    """
    given = prompts(lm, [[lm.separator, *text] for text in texts])
    x_BTD = activations(lm, tap, given.tokens_BP)
    found = dictionary.encode(x_BTD.reshape(-1, x_BTD.shape[-1]))
    val_UF = np.asarray(dense(found, dictionary.module.n_latents))
    val_BTF = val_UF.reshape(*given.tokens_BP.shape, -1)
    return [val_TF[1 : 1 + len(text)] for val_TF, text in zip(val_BTF, texts, strict=True)]


def activations(
    lm: LM, tap: Sequence[str], tokens_BT: Int[np.ndarray, "B T"]
) -> Float[jax.Array, "B T D"]:
    """The activations of a model at taps, concatenated, on tokens.

    Args:
        lm: the model.
        tap: the taps.
        tokens_BT: the tokens.

    Returns:
        `[B, T, D]` in float32.
    """
    return _read(lm.forward, tuple(tap), lm.params, tokens_BT)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _read(forward, tap: tuple[str, ...], params, tokens_BT) -> jax.Array:
    return side_by_side(forward(params, tokens_BT)[1], tap).astype(jnp.float32)
