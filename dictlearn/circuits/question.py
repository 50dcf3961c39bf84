"""A question about a model: a metric of its logits, on clean tokens and on patched ones."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.circuits import split
from dictlearn.circuits.split import Metric, Parts, Run
from dictlearn.lm.model import LM
from dictlearn.runs.trained import Trained


class Question(NamedTuple):
    """Which metric, on which tokens.

    metric: from logits `[S, T, V]` to one number for each sequence. clean_ST: the tokens of the clean run.
    patch_ST: the tokens of the patched run, aligned with them; None to patch with zeros. mask_ST: True where a
    token is data; None for all but the first of each sequence. freeze: what is constant in the backward pass,
    as in the forward pass of the model.
    """

    metric: Metric
    clean_ST: Any
    patch_ST: Any = None
    mask_ST: Any = None
    freeze: tuple[str, ...] = ()


class Asked(NamedTuple):
    """A question inside a compiled function. run: the clean forward pass. dictionaries: by the tap that they
    write. measure: the metric of what is added to the parts of each site. change: from clean to patched
    parts."""

    run: Run
    dictionaries: Mapping[str, Trained]
    measure: Callable[[Mapping[str, Parts]], jax.Array]
    change: dict[str, Parts]


def ask(
    lm: LM, by_tap: Mapping[str, Trained], question: Question, work: Callable[[Asked], Any]
) -> Any:
    """Compiles `work` on a question, and runs it.

    Args:
        lm: the language model.
        by_tap: the dictionaries by the tap that they write.
        question, work: the question; what is computed.

    Returns:
        What `work` returns.

    Raises:
        ValueError: for tokens of different shapes, and for tokens that the model does not have.
    """
    _check(lm, question)

    @jax.jit
    def run(params, variables):
        own = {tap: dataclasses.replace(by_tap[tap], variables=variables[tap]) for tap in by_tap}
        clean, mask_ST = run_of(lm, params, question), _mask(question)
        change = jax.tree.map(jnp.negative, split.states(clean, own, mask_ST))
        if question.patch_ST is not None:
            patched = run_of(lm, params, question._replace(clean_ST=question.patch_ST))
            there = split.states(patched, own, mask_ST)
            change = jax.tree.map(jnp.add, change, there)
        return work(Asked(clean, own, split.measured(clean, own, question.metric), change))

    return run(lm.params, {tap: one.variables for tap, one in by_tap.items()})


def _check(lm: LM, question: Question) -> None:
    shape, patch_ST = np.shape(question.clean_ST), question.patch_ST
    if patch_ST is not None and np.shape(patch_ST) != shape:
        raise ValueError(
            f"patch_ST of shape {np.shape(patch_ST)} must be aligned with clean_ST of shape {shape}."
        )
    lm.check_tokens(question.clean_ST, "clean_ST")
    if patch_ST is not None:
        lm.check_tokens(patch_ST, "patch_ST")


def run_of(lm: LM, params: Any, question: Question) -> Run:
    """The forward pass of the clean tokens of a question.

    Args:
        lm: the language model.
        params: its parameters.
        question: the question.

    Returns:
        A function of edits.
    """
    tokens_ST, mask_ST = jnp.asarray(question.clean_ST), _mask(question)
    return lambda edits: lm.forward(
        params, tokens_ST, edits=edits, mask_BT=mask_ST, freeze=question.freeze
    )


def _mask(question: Question) -> jax.Array:
    if question.mask_ST is not None:
        return jnp.asarray(question.mask_ST)
    shape = np.shape(question.clean_ST)
    return jnp.broadcast_to(jnp.arange(shape[1]) > 0, shape)
