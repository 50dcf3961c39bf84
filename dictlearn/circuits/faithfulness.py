"""Faithfulness of a circuit: how much of a metric remains when everything outside of it is ablated.

    y' = decode(where(kept, f, f_0)) + where(kept, e, e_0)        at every site, in one running pass
    faithfulness(C) = (m(C) - m(nothing)) / (m(everything) - m(nothing))
    completeness(C) = the same of the nodes outside C: low where C has all that matters

f_0 and e_0 are the means over a dataset at each position, or 0. Sites without a dictionary keep everything.

Source: Marks et al. 2024, "Sparse feature circuits" (arXiv:2403.19647), section 3.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.circuits import split
from dictlearn.circuits.effects import ERROR, Effects, Node, checked
from dictlearn.circuits.question import Question, run_of
from dictlearn.circuits.split import Parts
from dictlearn.lm.edits import Edit
from dictlearn.lm.model import LM
from dictlearn.runs.trained import Trained, place

THRESHOLDS = tuple(np.logspace(-4, 0, 15).tolist())


class Kept(NamedTuple):
    """The nodes of one site that a circuit has. latents: `[F]` or `[T, F]`. error: `[]` or `[T]`."""

    latents: Any
    error: Any


class Point(NamedTuple):
    """One threshold of a curve."""

    threshold: float
    nodes: int
    faithfulness: float
    completeness: float


def above(effects: Mapping[str, Effects], threshold: float, errors: bool = True) -> dict[str, Kept]:
    """The nodes whose effect is larger than a threshold.

    Args:
        effects: the effects at every site, without a sequence axis (`effects.total`).
        threshold: the smallest absolute effect that is not kept.
        errors: whether errors are kept by their effects; otherwise none is.

    Returns:
        {tap: kept}.
    """
    over = lambda one: np.abs(np.asarray(one)) > threshold
    return {tap: Kept(over(own.latents), over(own.error) & errors) for tap, own in effects.items()}


def complement(kept: Mapping[str, Kept]) -> dict[str, Kept]:
    """Every node of the same sites that is not kept.

    Args:
        kept: what is kept.

    Returns:
        {tap: kept}.
    """
    return {tap: Kept(*(~np.asarray(one) for one in own)) for tap, own in kept.items()}


def threshold_of(effects: Mapping[str, Effects], nodes: int, errors: bool = True) -> float:
    """The threshold above which there are at most so many nodes.

    Args:
        effects, errors: as in `above`.
        nodes: their number, which is met where no two effects are equal.

    Returns:
        The threshold; 0, above which all nodes are that have an effect, where there are no more.
    """
    parts = [one for own in effects.values() for one in (own if errors else own[:1])]
    sizes = np.sort(np.concatenate([np.abs(np.ravel(one)) for one in parts]))[::-1]
    return float(sizes[nodes]) if nodes < len(sizes) else 0.0


def means(
    lm: LM, dictionaries: Collection[Trained], tokens_ST: np.ndarray, mask_ST: np.ndarray
) -> dict[str, Parts]:
    """The mean of every latent and error at each position: what ablation puts in their place.

    Args:
        lm: the language model.
        dictionaries: dictionaries that read one tap and write one.
        tokens_ST, mask_ST: the dataset; every position needs a token.

    Returns:
        {tap: parts}, `[T, F]` and `[T, D]`.

    Raises:
        ValueError: for dictionaries with several taps.
    """
    by_tap = split.by_tap(dictionaries)

    @jax.jit
    def found(params, tokens, mask):
        own = split.states(lambda edits: lm.forward(params, tokens, edits=edits), by_tap, mask)
        count_T1 = jnp.maximum(mask.sum(0), 1)[:, None]
        return jax.tree.map(lambda leaf: leaf.sum(0) / count_T1, own)

    return found(lm.params, jnp.asarray(tokens_ST), jnp.asarray(mask_ST))


def measure(
    lm: LM,
    dictionaries: Collection[Trained],
    question: Question,
    kept: Mapping[str, Kept],
    ablated: Mapping[str, Parts] | None = None,
) -> np.ndarray:
    """The metric with only the kept nodes.

    Args:
        lm, dictionaries: the language model; dictionaries that read one tap and write one.
        question, kept: the metric and its tokens; what each site keeps, everything at sites without a name.
        ablated: the values of everything else, of `means`; None for 0.

    Returns:
        m for each sequence, `[S]`.

    Raises:
        ValueError: for a tap that no dictionary writes.
    """
    return measurer(lm, dictionaries, question, ablated)(kept)


def measurer(
    lm: LM,
    dictionaries: Collection[Trained],
    question: Question,
    ablated: Mapping[str, Parts] | None = None,
) -> Callable[[Mapping[str, Kept]], np.ndarray]:
    """`measure` as a function of what is kept, compiled once for all circuits of the same sites.

    Args:
        lm, dictionaries, question, ablated: as in `measure`.

    Returns:
        A function of what each site keeps, `[F]`, `[T, F]`, or `[S, 1, F]` for a circuit of each sequence.
    """
    by_tap, none = checked(dictionaries, []), Parts(jnp.zeros(()), jnp.zeros(()))

    @jax.jit
    def run(params, kept, instead):
        edits = {tap: only(by_tap[tap], own, instead[tap]) for tap, own in kept.items()}
        return question.metric(run_of(lm, params, question)(edits)[0])

    def measured(kept: Mapping[str, Kept]) -> np.ndarray:
        checked(dictionaries, [Node(tap, ERROR) for tap in kept])
        instead = {tap: ablated[tap] if ablated else none for tap in kept}
        return np.asarray(run(lm.params, dict(kept), instead))

    return measured


def only(one: Trained, kept: Kept, instead: Parts) -> Edit:
    """The edit that ablates what is not kept.

    Args:
        one: the dictionary of the site.
        kept: what is kept.
        instead: the values of everything else.

    Returns:
        The edit, for the tap that the dictionary writes.
    """
    read = place(one)[0]

    def edit(y_STD, mask_ST, taps):
        own, decode = split.parts(one, taps[read], y_STD)
        f_STF = jnp.where(kept.latents, own.codes, instead.codes)
        e_STD = jnp.where(jnp.asarray(kept.error)[..., None], own.error, instead.error)
        new_STD = (decode(f_STF) + e_STD).astype(y_STD.dtype)
        return jnp.where(mask_ST[..., None], new_STD, y_STD)

    return edit


def share(m: float, nothing: float, everything: float) -> float:
    """Faithfulness of three means of the metric.

    Args:
        m: with the circuit alone.
        nothing: with everything ablated.
        everything: of the model.

    Returns:
        The share. Not a number where the whole metric is that of nothing.
    """
    return (m - nothing) / (everything - nothing) if everything != nothing else float("nan")


def curve(
    lm: LM,
    dictionaries: Collection[Trained],
    question: Question,
    effects: Mapping[str, Effects],
    ablated: Mapping[str, Parts] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    errors: bool = True,
) -> list[Point]:
    """Faithfulness and completeness as the circuit grows.

    Args:
        lm: the language model.
        dictionaries: dictionaries that read one tap and write one.
        question: the metric and its tokens, other examples than those of the effects.
        effects: the effects at every site, of `effects.total`.
        ablated: as in `measure`.
        thresholds: the thresholds of the effects.
        errors: whether errors are kept by their effects; otherwise none is.

    Returns:
        A point for each threshold.

    Raises:
        ValueError: as `measure`.
    """
    measured = measurer(lm, dictionaries, question, ablated)
    mean = lambda kept: float(measured(kept).mean())
    none = {tap: Kept(*(np.zeros_like(one, bool) for one in own)) for tap, own in effects.items()}
    nothing, everything, found = mean(none), mean({}), []
    for threshold in thresholds:
        kept = above(effects, threshold, errors)
        nodes = sum(int(np.sum(one)) for own in kept.values() for one in own)
        scores = (share(mean(one), nothing, everything) for one in (kept, complement(kept)))
        found.append(Point(float(threshold), nodes, *scores))
    return found
