"""Prompts whose next token is a name: where their attributes are read, and what the model then says (`ioi`).

Axes: S a prompt, P its tokens, B a prompt of a batch, N a name.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from dictlearn import lm as language
from dictlearn.analyses._entities import last
from dictlearn.analyses._interchange import BATCH, put
from dictlearn.lm import LM
from dictlearn.runs import on_texts
from dictlearn.tasks import Task

ORDER, TEMPLATE = "order", "template"
PLACES = ("end", "s2")
"""Where a prompt is read: at its last token, or at the last one of the subject's second name."""


class Prompts(NamedTuple):
    """Prompts as tokens. at_S: the token that is read, and x_SD the activation there. io_S, s_S: the names that
    are right and wrong, of the names whose next tokens are name_N. values: the attributes, from 0."""

    tokens_SP: np.ndarray
    length_S: np.ndarray
    at_S: np.ndarray
    x_SD: np.ndarray
    io_S: np.ndarray
    s_S: np.ndarray
    name_N: np.ndarray
    values: Mapping[str, np.ndarray]

    def partners(self, attribute: str, seed: int) -> np.ndarray:
        """A counterpart of each prompt, drawn of those that differ in this attribute alone."""
        columns = [one for name, one in self.values.items() if name != attribute]
        rest_S = np.unique(np.stack(columns), axis=1, return_inverse=True)[1].ravel()
        random, value_S = np.random.default_rng(seed), self.values[attribute]
        alike = lambda s: np.flatnonzero((rest_S == rest_S[s]) & (value_S != value_S[s]))
        return np.array([random.choice(alike(s)) for s in range(len(value_S))])


def read(lm: LM, tap: str, task: Task, place: str) -> Prompts:
    """Reads the prompts of a task.

    Args:
        lm: the model.
        tap: the tap.
        task: the prompts (tasks/ioi_prompts.py).
        place: where they are read, of PLACES.

    Returns:
        The Prompts.

    Raises:
        ValueError: for names that the next token does not tell apart.
    """
    io_S, s_S = task.attributes["io"], task.attributes["s"]
    names = sorted({*io_S.tolist(), *s_S.tolist()})
    shared, name_N = next_tokens(lm, names)
    encoded = lm.tokenizer.encode_batch(list(task.text), add_special_tokens=False)
    given = language.prompts(lm, [[lm.separator, *one.ids, *shared] for one in encoded])
    texts = zip(task.text, s_S.tolist(), (one.offsets for one in encoded), strict=True)
    at_S = given.length_B - 1
    if place == "s2":
        at_S = np.array([1 + last(*one) for one in texts])
    number = lambda value_S: np.unique(value_S, return_inverse=True)[1]
    own = {"io": io_S, "s": s_S, ORDER: task.label_S, TEMPLATE: task.attributes[TEMPLATE]}
    values = {name: number(one) for name, one in own.items()}
    place_S = np.searchsorted(names, io_S), np.searchsorted(names, s_S)
    x_SD = _rows(lm, tap, given.tokens_BP, at_S)
    return Prompts(given.tokens_BP, given.length_B, at_S, x_SD, *place_S, name_N, values)


def _rows(lm: LM, tap: str, tokens_SP: np.ndarray, at_S: np.ndarray) -> np.ndarray:
    """The activation at one token of each prompt."""
    found = []
    for own in _batches(len(at_S)):
        x_BTD = np.asarray(on_texts.activations(lm, [tap], tokens_SP[own]))
        found.append(x_BTD[np.arange(BATCH), at_S[own]])
    return np.concatenate(found)[: len(at_S)].astype(np.float64)


def next_tokens(lm: LM, names: Sequence[str]) -> tuple[list[int], np.ndarray]:
    """(the tokens that all names begin with, such as a space, the next token of each name)."""
    encoded = lm.tokenizer.encode_batch([f" {one}" for one in names], add_special_tokens=False)
    ids = [one.ids for one in encoded]
    n = next(i for i, each in enumerate(zip(*ids, strict=False)) if len({*each}) > 1)
    found = [each[n] for each in ids]
    if len({*found}) < len(found):
        raise ValueError(
            f"the next token does not tell the names {list(names)} apart: {found}; draw others by `seed`, or "
            "fewer by `n_names`."
        )
    return ids[0][:n], np.array(found)


def _batches(n: int):
    """The rows of each batch; the last one begins again."""
    for start in range(0, n, BATCH):
        yield np.resize(np.arange(n)[start : start + BATCH], BATCH)


def logits(lm: LM, tap: str, prompts: Prompts, new_SD: np.ndarray) -> np.ndarray:
    """The logits of the names after prompts whose activation at one token is replaced.

    Args:
        lm: the model.
        tap: the tap.
        prompts: the prompts.
        new_SD: the activations.

    Returns:
        `[S, N]`.
    """
    found = []
    for own in _batches(len(new_SD)):
        given = prompts.tokens_SP[own], prompts.length_S[own], prompts.at_S[own]
        new_BD = new_SD[own].astype(np.float32)
        found.append(np.asarray(_said(lm.forward, tap, lm.params, *given, new_BD, prompts.name_N)))
    return np.concatenate(found)[: len(new_SD)]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _said(forward, tap: str, params, tokens_BP, length_B, at_B, new_BD, name_N) -> jax.Array:
    edits, every_BP = {tap: Partial(put, at_B, new_BD)}, jnp.ones(tokens_BP.shape, bool)
    logits_BPV = forward(params, tokens_BP, edits=edits, mask_BT=every_BP)[0]
    return logits_BPV[jnp.arange(len(length_B)), length_B - 1][:, name_N].astype(jnp.float32)
