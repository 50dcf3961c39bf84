"""Indirect effects of latents and errors on a metric: exact, by attribution patching and integrated gradients.

    exact         m(a = a_p) - m(a = a_c)                                        one pass for each node
    attribution   <grad m(a_c), a_p - a_c>                                       one backward pass for all nodes
    integrated    <1/N sum_n grad m(a_c + t_n (a_p - a_c)), a_p - a_c>           N backward passes for each site

a_c is the value of a node in the clean run, a_p its value in the patched run, or 0. A node is a latent at a
token, or the whole error at a token. t_n is (n + 1/2) / N, the middle of each interval; `left` takes n / N, as
the published code does. Integrated gradients move one site at a time, latents and error together.

Source: Marks et al. 2024 (arXiv:2403.19647); attribution patching of Nanda 2023 and Syed et al. 2023
(arXiv:2310.10348). UNSURE: the paper says no end point for N = 10.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.circuits import split
from dictlearn.circuits.question import Asked, Question, ask
from dictlearn.circuits.split import Parts
from dictlearn.lm.model import LM
from dictlearn.runs.trained import Trained

Tree = TypeVar("Tree")
ERROR = -1
"""The index of the error among the latents of a site."""
METHODS = ("attribution", "integrated")


class Effects(NamedTuple):
    """The indirect effects at one site. latents: `[S, T, F]`. error: `[S, T]`, or without S and T."""

    latents: jax.Array
    error: jax.Array


class Node(NamedTuple):
    """A node: a tap, a latent of the dictionary that writes it (or ERROR), and a position (None for all)."""

    tap: str
    latent: int
    position: int | None = None


def attribution(metric: Callable[[Tree], jax.Array], change: Tree) -> Tree:
    """Attribution patching.

    Args:
        metric: of what is added to each value; it returns numbers that are summed.
        change: a_p - a_c.

    Returns:
        The product of gradient and change, in the form of `change`.
    """
    zero = jax.tree.map(jnp.zeros_like, change)
    gradient = jax.grad(lambda added: metric(added).sum())(zero)
    return jax.tree.map(jnp.multiply, gradient, change)


def integrated(
    metric: Callable[[Tree], jax.Array], change: Tree, steps: int = 10, left: bool = False
) -> Tree:
    """Integrated gradients along the straight line from the clean to the patched values.

    Args:
        metric: of what is added to each value; it returns numbers that are summed.
        change: a_p - a_c.
        steps: N.
        left: whether to take the left ends of the intervals instead of their middles.

    Returns:
        The product of mean gradient and change, in the form of `change`.

    Raises:
        ValueError: for fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"{steps=} must be at least 1.")
    gradient = jax.grad(lambda added: metric(added).sum())

    def one(total: Tree, t: jax.Array) -> tuple[Tree, None]:
        found = gradient(jax.tree.map(lambda leaf: t.astype(leaf.dtype) * leaf, change))
        return jax.tree.map(lambda a, b: a + b / steps, total, found), None

    along = (jnp.arange(steps) + (0.0 if left else 0.5)) / steps
    mean, _ = jax.lax.scan(one, jax.tree.map(jnp.zeros_like, change), along)
    return jax.tree.map(jnp.multiply, mean, change)


def exact(metric: Callable[[Tree], jax.Array], change: Tree) -> jax.Array:
    """Exact patching of all values together: the reference.

    Args:
        metric: of what is added to each value.
        change: a_p - a_c, zero for the values that stay.

    Returns:
        The change of the metric.
    """
    return metric(change) - metric(jax.tree.map(jnp.zeros_like, change))


def indirect(
    lm: LM,
    dictionaries: Collection[Trained],
    question: Question,
    method: str = "integrated",
    steps: int = 10,
    left: bool = False,
) -> dict[str, Effects]:
    """Estimates the indirect effect of every latent and every error.

    Args:
        lm, dictionaries, question: the model; dictionaries with one tap each; the metric and the tokens.
        method, steps, left: "attribution", one backward pass for all sites; or "integrated" for each.

    Returns:
        {written tap: effects}, dense arrays `[S, T, F]`: pass a few sequences at a time.

    Raises:
        ValueError: for an unknown method, tokens of different shapes, and dictionaries with several taps.
    """
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}; known: {METHODS}.")

    def estimate(asked: Asked) -> Mapping[str, Parts]:
        if method == "attribution":
            return attribution(asked.measure, asked.change)
        one = lambda tap, own: integrated(asked.measure, {tap: own}, steps, left)[tap]
        return {tap: one(tap, own) for tap, own in asked.change.items()}

    by_tap = split.by_tap(dictionaries)
    products = ask(lm, by_tap, question, estimate)
    return {t: Effects(products[t].codes, products[t].error.sum(-1)) for t in by_tap}


def patched(
    lm: LM, dictionaries: Collection[Trained], question: Question, nodes: Sequence[Node]
) -> np.ndarray:
    """The exact indirect effect of some nodes, in one forward pass for each.

    Args:
        lm, dictionaries: the language model; dictionaries that read one tap and write one.
        question, nodes: the metric and the tokens; the nodes, each alone.

    Returns:
        `[nodes, S]`.

    Raises:
        ValueError: as `indirect`, and for a node at a tap that no dictionary writes.
    """
    by_tap = checked(dictionaries, nodes)
    groups = {tap: [i for i, node in enumerate(nodes) if node.tap == tap] for tap in by_tap}

    def work(asked: Asked) -> list[jax.Array]:
        (measure, change), found = asked[2:], []
        for tap, own in groups.items():
            pairs = [
                (nodes[i].latent, _ALL if (at := nodes[i].position) is None else at) for i in own
            ]
            one = lambda node, tap=tap: exact(measure, {tap: _only(change[tap], *node)})
            found.append(jax.lax.map(one, jnp.array(pairs, int).reshape(-1, 2)))
        return found

    order = np.argsort(np.concatenate(list(groups.values())))
    return np.concatenate(ask(lm, by_tap, question, work))[order]


def checked(dictionaries: Collection[Trained], nodes: Sequence[Node]) -> dict[str, Trained]:
    """The dictionaries by the tap that they write, which nodes are at.

    Args:
        dictionaries: dictionaries that read one tap and write one.
        nodes: the nodes.

    Returns:
        {tap: dictionary}.

    Raises:
        ValueError: for a node at a tap that no dictionary writes.
    """
    by_tap = split.by_tap(dictionaries)
    if unknown := [node for node in nodes if node.tap not in by_tap]:
        raise ValueError(f"No dictionary writes {unknown[0].tap!r}; they write {list(by_tap)}.")
    return by_tap


_ALL = -1


def _only(change: Parts, latent: jax.Array, position: jax.Array) -> Parts:
    """The change of one node."""
    _, length, n_latents = change.codes.shape
    at_T1 = ((jnp.arange(length) == position) | (position == _ALL))[:, None]
    codes = jnp.where(at_T1 & (jnp.arange(n_latents) == latent), change.codes, 0)
    return Parts(codes, jnp.where(at_T1 & (latent == ERROR), change.error, 0))


def total(effects: Effects, by_position: bool = False) -> Effects:
    """The effects of a site over examples: the sum over positions, then the mean over sequences.

    Args:
        effects: the effects of each sequence and token.
        by_position: whether positions stay apart, for templates whose tokens are aligned.

    Returns:
        `[F]` and `[]`; with `by_position`, `[T, F]` and `[T]`.
    """
    pooled = effects if by_position else jax.tree.map(lambda one: one.sum(1), effects)
    return Effects(*(jnp.asarray(one).mean(0) for one in pooled))
