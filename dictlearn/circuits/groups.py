"""Supernodes, and graphs of several prompts beside each other.

    activation of a group    sum of its latents' activations
    edge between groups      sum of the edges between their nodes

Source: Ameisen et al. 2025, "Circuit tracing": nodes of one meaning are grouped by hand.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dictlearn.circuits.graph import Graph


class Groups(NamedTuple):
    """A graph of groups. names: the groups, then the nodes that are in none, by their indices. values_G: the
    activations. edges_GG: the direct effects, row target, column source."""

    names: tuple[str, ...]
    values_G: np.ndarray
    edges_GG: np.ndarray


def grouped(graph: Graph, groups: Mapping[str, Sequence[int]], rest: bool = True) -> Groups:
    """The graph of groups of nodes.

    Args:
        graph: the graph.
        groups: {name: the indices of its nodes}; no node is in two.
        rest: whether nodes in no group stay as groups of one.

    Returns:
        Groups. Edges within a group are on the diagonal.

    Raises:
        ValueError: for a node in two groups, and for one that does not exist.
    """
    listed = [node for nodes in groups.values() for node in nodes]
    if len(set(listed)) < len(listed):
        twice = next(node for node in listed if listed.count(node) > 1)
        raise ValueError(f"Node {twice} is in two groups; a node has one at most.")
    if outside := [node for node in listed if not 0 <= node < len(graph)]:
        raise ValueError(f"Node {outside[0]} is outside the graph's {len(graph)} nodes.")
    alone = sorted(set(range(len(graph))) - set(listed)) if rest else []
    members = [*map(list, groups.values()), *([node] for node in alone)]
    values_M = np.zeros(len(graph), graph.values_N.dtype)
    values_M[: len(graph.values_N)] = graph.values_N
    belongs_GM = np.zeros((len(members), len(graph)), graph.edges_MM.dtype)
    for group, nodes in enumerate(members):
        belongs_GM[group, nodes] = 1
    edges_GG = belongs_GM @ graph.edges_MM @ belongs_GM.T
    return Groups((*groups, *map(str, alone)), belongs_GM @ values_M, edges_GG)


class Shared(NamedTuple):
    """A latent in the graphs of several prompts: its layer, its number, and its largest activation in each
    prompt, 0 where it is no node."""

    layer: int
    latent: int
    values: tuple[float, ...]


def shared(graphs: Sequence[Graph], at_least: int = 2) -> list[Shared]:
    """The latents that several prompts have in common.

    Args:
        graphs: graphs of the same dictionaries.
        at_least: the number of prompts in which a latent is a node.

    Returns:
        The latents, those of the most prompts first.

    Raises:
        ValueError: for graphs of different models or dictionaries.
    """
    kinds = sorted({(one.model, one.dictionaries) for one in graphs})
    if len(kinds) > 1:
        raise ValueError(f"The graphs are of {len(kinds)} sets of dictionaries: {kinds}; give one.")
    found: dict[tuple[int, int], list[float]] = {}
    for at, graph in enumerate(graphs):
        for (layer, _, latent), value in zip(graph.latents_N3, graph.values_N, strict=True):
            values = found.setdefault((int(layer), int(latent)), [0.0] * len(graphs))
            values[at] = max(values[at], float(value))
    rows = [Shared(*latent, tuple(values)) for latent, values in found.items()]
    count = lambda one: sum(value > 0 for value in one.values)
    kept = [one for one in rows if count(one) >= at_least]
    return sorted(kept, key=lambda one: (-count(one), one.layer, one.latent))
