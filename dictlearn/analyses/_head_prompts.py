"""Prompts whose answer is one token, read head by head, and answered by some heads alone (`discrete_circuit`).

Axes: N prompts, P tokens, h heads of all layers, w the width of a head; the others as in `dictlearn.types`.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn import lm as language
from dictlearn.analyses import _documents, _names
from dictlearn.circuits.heads import only
from dictlearn.lm import LM
from dictlearn.tasks import Task

PLACES = ("last", "mean")
"""Where a head is read: at the last token of a prompt, or on the mean of all but the first."""


class Examples(NamedTuple):
    """Positive prompts as tokens, each with its negative one. right_N, wrong_N: tokens after positive ones."""

    positive: list[list[int]]
    negative: list[list[int]]
    right_N: np.ndarray
    wrong_N: np.ndarray

    def some(self, chosen_N: np.ndarray) -> "Examples":
        """The examples at some places."""
        of = lambda prompts: [prompts[n] for n in chosen_N]
        sides = of(self.positive), of(self.negative)
        return Examples(*sides, self.right_N[chosen_N], self.wrong_N[chosen_N])


def examples(lm: LM, task: Task, positive: Sequence[str], right: str, wrong: str) -> Examples:
    """The prompts of a task, positive and negative in turn.

    Args:
        lm: the model.
        task: the prompts.
        positive: the labels of the positive ones.
        right, wrong: the attributes that hold the right and the wrong answer, words.

    Returns:
        Examples.

    Raises:
        ValueError: for prompts that are not in turn, an attribute that is missing, and answers that the next
            token does not tell apart.
    """
    is_N = np.isin(task.label_S, positive)
    if not (len(is_N) and np.array_equal(is_N, np.arange(len(is_N)) % 2 == 0)):
        raise ValueError(
            f"labels {list(task.counts)} must be in turn one of positive={list(positive)} and another one."
        )
    answers = [_answer(task, one)[is_N] for one in (right, wrong)]
    words = sorted({*answers[0].tolist(), *answers[1].tolist()})
    shared, word_V = _names.next_tokens(lm, words)
    encoded = lm.tokenizer.encode_batch(list(task.text), add_special_tokens=False)
    ids = [[lm.separator, *one.ids, *shared] for one in encoded]
    tokens = [word_V[np.searchsorted(words, one)] for one in answers]
    return Examples(ids[::2], ids[1::2], *tokens)


def _answer(task: Task, name: str) -> np.ndarray:
    if name not in task.attributes:
        there = ", ".join(task.attributes) or "none"
        raise ValueError(f"{name!r} is no attribute of the task; there are {there}.")
    return task.attributes[name]


def outputs(lm: LM, prompts: Sequence[Sequence[int]], place: str) -> np.ndarray:
    """The output of every head on prompts, `[N, h, w]`, layer by layer."""
    taps = _taps(lm)
    if place == "last":
        x_NZ = _documents.last_rows(lm, taps, prompts)
    else:
        x_NZ = _documents.means(lm, taps, [], prompts).x_SD
    return x_NZ.reshape(len(prompts), len(taps) * lm.spec.n_heads, -1)


class Answered:
    """A model that answers with some heads; the others have their mean on the negative prompts.

    The mean is that of each position over the prompts that reach it, and over all tokens where none does.

    Args:
        lm: the model.
        own: the prompts.
    """

    def __init__(self, lm: LM, own: Examples):
        self._lm, self._own = lm, own
        self._given = language.prompts(lm, own.positive)
        self._mean_LPH = _means(lm, own.negative, self._given.tokens_BP.shape[1])

    def difference(self, kept_h: np.ndarray) -> float:
        """The mean logit of the right answer less that of the wrong one, with these heads kept."""
        kept_Lh = jnp.asarray(kept_h).reshape(self._lm.spec.n_layers, -1)
        tokens_BP, length_B = self._given
        sides = jnp.asarray(self._own.right_N), jnp.asarray(self._own.wrong_N)
        forward, params = self._lm.forward, self._lm.params
        mask_BP = self._given.mask_BP()
        given = tokens_BP, length_B, mask_BP, kept_Lh, self._mean_LPH, sides
        return float(_difference(forward, _taps(self._lm), params, *given))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _difference(forward, taps, params, tokens_BP, length_B, mask_BP, kept_Lh, mean_LPH, sides):
    edits = {tap: only(kept_Lh[i], mean_LPH[i][None]) for i, tap in enumerate(taps)}
    logits_BPV = forward(params, tokens_BP, edits=edits, mask_BT=mask_BP)[0]
    rows_B = jnp.arange(len(length_B))
    last_BV = logits_BPV[rows_B, length_B - 1].astype(jnp.float32)
    return (last_BV[rows_B, sides[0]] - last_BV[rows_B, sides[1]]).mean()


def _means(lm: LM, prompts: Sequence[Sequence[int]], length: int) -> jax.Array:
    given = language.prompts(lm, prompts)
    n = max(length, given.tokens_BP.shape[1])
    pad = lambda own_BP: np.pad(own_BP, ((0, 0), (0, n - own_BP.shape[1])))
    tokens_BP, mask_BP = pad(given.tokens_BP), pad(given.mask_BP())
    return _mean(lm.forward, _taps(lm), lm.params, tokens_BP, mask_BP)[:, :length]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _mean(forward, taps, params, tokens_BP, mask_BP) -> jax.Array:
    found = forward(params, tokens_BP)[1]
    count_P1 = mask_BP.sum(0)[:, None]

    def one(tap: str) -> jax.Array:
        sum_PH = jnp.where(mask_BP[..., None], found[tap], 0).sum(0)
        return jnp.where(
            count_P1 > 0, sum_PH / jnp.maximum(count_P1, 1), sum_PH.sum(0) / mask_BP.sum()
        )

    return jnp.stack([one(tap) for tap in taps])


def _taps(lm: LM) -> tuple[str, ...]:
    return tuple(f"attn_z.{layer}" for layer in range(lm.spec.n_layers))
