"""Sparse feature circuits: the latents and errors that move a metric, and the edges between them.

    node     a latent or an error of a site whose effect on the metric, summed over positions, is large
    edge     grad_d m * (d d / d u) * (u_p - u_c)      the derivative from u to d, through no other site

Every site is split and passes no gradient on, so one backward pass from a node reaches the sites that it reads
directly, and no further. Errors are sources and targets too. In a linear network the edges into a node, from
all nodes of a complete cut, add up to the effect of the node.

Source: Marks et al. 2024, "Sparse feature circuits" (arXiv:2403.19647). UNSURE: the thresholds, 0.1 and 0.01 in
the paper, 0.2 and 0.02 in its code.
Differs: edges are between the nodes that are kept.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.circuits import split
from dictlearn.circuits.effects import ERROR, Effects, Node, checked, indirect, total
from dictlearn.circuits.question import Asked, Question, ask
from dictlearn.circuits.split import Parts
from dictlearn.lm.model import LM
from dictlearn.runs.trained import Trained

NODE_THRESHOLD, EDGE_THRESHOLD = 0.1, 0.01


class Edge(NamedTuple):
    """An edge: its source, its target, and its weight, the mean over sequences."""

    source: Node
    target: Node
    weight: float


class Circuit(NamedTuple):
    """A feature circuit. effects: of every node of every site, `[F]` and `[]`. nodes: those that are kept, with
    their effects, the largest first. edges: between them, the largest first."""

    effects: dict[str, Effects]
    nodes: dict[Node, float]
    edges: list[Edge]


def circuit(
    lm: LM,
    dictionaries: Collection[Trained],
    question: Question,
    *,
    node_threshold: float = NODE_THRESHOLD,
    edge_threshold: float = EDGE_THRESHOLD,
    method: str = "integrated",
) -> Circuit:
    """Finds the circuit of a metric.

    Args:
        lm: the language model.
        dictionaries: dictionaries that read one tap and write one.
        question: the metric and its examples.
        node_threshold, edge_threshold: the smallest absolute effect and edge that are not kept.
        method: of the effects, as in `indirect`.

    Returns:
        Circuit.

    Raises:
        ValueError: as `indirect`.
    """
    found = indirect(lm, dictionaries, question, method)
    effects = {tap: total(own) for tap, own in found.items()}
    nodes = kept(effects, node_threshold)
    weights = edges(lm, dictionaries, question, list(nodes))
    large = filter(lambda one: abs(one.weight) > edge_threshold, weights)
    return Circuit(effects, nodes, sorted(large, key=lambda one: -abs(one.weight)))


def kept(effects: Mapping[str, Effects], threshold: float) -> dict[Node, float]:
    """The nodes whose effect is larger than a threshold.

    Args:
        effects: the effects of every site, summed over positions (`effects.total`).
        threshold: the smallest absolute effect that is not kept.

    Returns:
        {node: effect}, the largest first.
    """
    found = {}
    for tap, own in effects.items():
        latents_F = np.asarray(own.latents)
        for latent in np.flatnonzero(np.abs(latents_F) > threshold):
            found[Node(tap, int(latent))] = float(latents_F[latent])
        if abs(float(own.error)) > threshold:
            found[Node(tap, ERROR)] = float(own.error)
    return dict(sorted(found.items(), key=lambda one: -abs(one[1])))


def edges(
    lm: LM, dictionaries: Collection[Trained], question: Question, nodes: Sequence[Node]
) -> list[Edge]:
    """The edges between nodes, summed over the positions of both.

    Args:
        lm, dictionaries: the language model; dictionaries that read one tap and write one.
        question, nodes: the metric and its examples; the nodes, without positions.

    Returns:
        Every edge that is not zero.

    Raises:
        ValueError: as `indirect`, and for a node at a tap that no dictionary writes.
    """
    by_tap = checked(dictionaries, nodes)
    groups = {tap: [node for node in nodes if node.tap == tap] for tap in by_tap}
    targets = {tap: jnp.array([n.latent for n in own], int) for tap, own in groups.items() if own}

    def work(asked: Asked) -> dict[str, jax.Array]:
        zero = jax.tree.map(jnp.zeros_like, asked.change)
        slope = jax.grad(lambda added: asked.measure(added).sum())(zero)
        return {tap: _into(asked, tap, slope[tap], own, nodes) for tap, own in targets.items()}

    found = ask(lm, by_tap, question, work)
    rows = [(groups[tap][i], row) for tap in found for i, row in enumerate(found[tap].tolist())]
    whole = [
        Edge(node, target, w) for target, row in rows for node, w in zip(nodes, row, strict=True)
    ]
    return [edge for edge in whole if edge.weight]


def _into(asked: Asked, tap: str, slope: Parts, latent_N, nodes: Sequence[Node]) -> jax.Array:
    """The weights `[targets, nodes]` of the edges into the targets of one site."""
    above = {at: own for at, own in asked.change.items() if at != tap}

    def parts(added: Mapping[str, Parts]) -> Parts:
        edits = {
            at: split.site(asked.dictionaries[at], own, through=False) for at, own in added.items()
        }
        return split.at(asked.dictionaries[tap], asked.run(edits)[1])

    _, pull = jax.vjp(parts, jax.tree.map(jnp.zeros_like, above))

    def one(latent: jax.Array) -> jax.Array:
        on_F = jnp.arange(slope.codes.shape[-1]) == latent
        only = Parts(slope.codes * on_F, slope.error * (latent == ERROR))
        products = jax.tree.map(jnp.multiply, pull(only)[0], above)
        own = {at: total(Effects(part.codes, part.error.sum(-1))) for at, part in products.items()}
        return jnp.stack([_of(own, node) for node in nodes])

    return jax.lax.map(one, latent_N)


def _of(effects: Mapping[str, Effects], node: Node) -> jax.Array:
    """The effect of a node; 0 at the site of the target."""
    if node.tap not in effects:
        return jnp.zeros(())
    own = effects[node.tap]
    return own.error if node.latent == ERROR else own.latents[node.latent]
