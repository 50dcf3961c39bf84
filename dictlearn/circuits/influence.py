"""The influence of nodes on the logits of an attribution graph, pruning by it, and the scores of a graph.

    N = |A| with rows that sum to 1       I = w (N + N^2 + ...)       w the weights of the logits
    score of an edge t <- s               N_ts (I_t + w_t)
    replacement     sum of I over tokens / sum of I over tokens and errors
    completeness    sum_t (1 - sum over errors e of N_te) (I_t + w_t) / sum_t (I_t + w_t)

N is nilpotent, because every edge goes from an earlier to a later node, so the sum ends. Pruning keeps the
nodes that carry a share of all influence, tokens and logits always; then the edges that carry a share of all
scores; then it drops what is left without an edge out, and latents without an edge in.

Source: Ameisen et al. 2025, "Circuit tracing", appendix on graph pruning; circuit-tracer's `graph.py`.
Differs: a threshold of 1 keeps everything with influence, whatever rounding says, and an edge of weight 0 is
never kept.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dictlearn.circuits.graph import Graph

_LEAST = 1e-10
"""The smallest denominator of a row."""


class Pruned(NamedTuple):
    """What pruning keeps of a graph. nodes_M, edges_MM: whether each is kept. share_M: for each node, the share
    of all influence that nodes at least as influential carry. influence_M: the influence of each.
    node_threshold: the share of the influence that nodes keep."""

    graph: Graph
    nodes_M: np.ndarray
    edges_MM: np.ndarray
    share_M: np.ndarray
    influence_M: np.ndarray
    node_threshold: float


class Scores(NamedTuple):
    """The scores of a graph, between 0 and 1."""

    replacement: float
    completeness: float


def normalised(edges_MM: Float[np.ndarray, "R M"]) -> Float[np.ndarray, "R M"]:
    """N of some rows.

    Args:
        edges_MM: the rows.

    Returns:
        Their absolute values, divided by their sums. A row of zeros stays.
    """
    size_MM = np.abs(edges_MM)
    size_MM /= np.maximum(size_MM.sum(1, keepdims=True), _LEAST)
    return size_MM


def influence(
    share_MM: Float[np.ndarray, "M M"], weights_M: Float[np.ndarray, " M"]
) -> Float[np.ndarray, " M"]:
    """I of every node.

    Args:
        share_MM: N, of `normalised`.
        weights_M: w.

    Returns:
        I.

    Raises:
        ValueError: for edges that form a circle.
    """
    total_M = now_M = weights_M @ share_MM
    for _ in range(len(share_MM)):
        if not now_M.any():
            return total_M
        now_M = now_M @ share_MM
        total_M = total_M + now_M
    raise ValueError("The edges form a circle; in a graph they go from earlier to later nodes.")


def partial(
    edges_RC: Float[np.ndarray, "R C"], rows_X: Int[np.ndarray, " X"], weights_K: np.ndarray
) -> Float[np.ndarray, " C"]:
    """I of every source where only some nodes have a row, and the others end its ways.

    Args:
        edges_RC: the rows of the logits, then of some sources.
        rows_X: the columns of those sources.
        weights_K: the weights of the logits.

    Returns:
        I.
    """
    share_RC, n_logits = normalised(edges_RC), len(weights_K)
    now_R = np.concatenate([weights_K, np.zeros(len(rows_X))]).astype(edges_RC.dtype)
    total_C = np.zeros(edges_RC.shape[1], edges_RC.dtype)
    while now_R.any():
        now_C = now_R @ share_RC
        total_C += now_C
        now_R = np.concatenate([np.zeros(n_logits, edges_RC.dtype), now_C[rows_X]])
    return total_C


def edge_scores(
    edges_MM: Float[np.ndarray, "M M"], weights_M: Float[np.ndarray, " M"]
) -> Float[np.ndarray, "M M"]:
    """The score of every edge.

    Args:
        edges_MM: the edges.
        weights_M: w.

    Returns:
        The scores.
    """
    share_MM = normalised(edges_MM)
    return share_MM * (influence(share_MM, weights_M) + weights_M)[:, None]


def prune(graph: Graph, node_threshold: float = 0.8, edge_threshold: float = 0.98) -> Pruned:
    """Chooses the nodes and edges that carry a share of the influence.

    Args:
        graph: the graph.
        node_threshold: the share of the influence of nodes to keep.
        edge_threshold: the share of the scores of edges to keep.

    Returns:
        Pruned.

    Raises:
        ValueError: for a threshold outside 0 to 1.
    """
    for name, value in (("node_threshold", node_threshold), ("edge_threshold", edge_threshold)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value} must be between 0 and 1.")
    weights_M, free = graph.weights_M, graph.embeddings.start
    influence_M = influence(normalised(graph.edges_MM), weights_M)
    nodes_M = influence_M >= _bound(influence_M, node_threshold)
    nodes_M[free:] = True
    kept = np.flatnonzero(nodes_M)
    score_KK = edge_scores(graph.edges_MM[np.ix_(kept, kept)], weights_M[kept])
    kept_KK = score_KK >= _bound(score_KK[score_KK > 0], edge_threshold)
    alive_K = _connected(kept_KK, kept < free, kept < graph.errors.start)
    nodes_M[kept] = alive_K
    edges_MM = np.zeros(graph.edges_MM.shape, bool)
    edges_MM[np.ix_(kept, kept)] = kept_KK & alive_K & alive_K[:, None]
    return Pruned(graph, nodes_M, edges_MM, _share(influence_M), influence_M, node_threshold)


def _bound(score: np.ndarray, threshold: float) -> float:
    """The smallest score that is kept, so that those kept sum to at least the threshold's share."""
    falling = np.sort(score[score > 0].astype(np.float64))[::-1]
    if not len(falling):
        return np.inf
    share = np.cumsum(falling) / falling.sum()
    at = len(falling) - 1 if threshold >= 1 else np.searchsorted(share, threshold)
    # As a number of the scores' own type: a wider one could be larger than the score that it came from.
    return score.dtype.type(falling[min(at, len(falling) - 1)])


def _share(influence_M: np.ndarray) -> np.ndarray:
    order = np.argsort(-influence_M, kind="stable")
    share_M = np.empty(len(influence_M))
    share_M[order] = np.cumsum(influence_M[order], dtype=np.float64)
    return share_M / max(float(share_M.max(initial=0)), _LEAST)


def _connected(kept_KK: np.ndarray, leaves_K: np.ndarray, latents_K: np.ndarray) -> np.ndarray:
    """Which nodes remain when, again and again, `leaves` without an edge out go, and latents without one in."""
    alive_K, before = np.ones(len(kept_KK), bool), -1
    while (now := int(alive_K.sum())) != before:
        before, edges_KK = now, kept_KK & alive_K & alive_K[:, None]
        alive_K = alive_K & (~leaves_K | edges_KK.any(0)) & (~latents_K | edges_KK.any(1))
    return alive_K


def scores(graph: Graph) -> Scores:
    """How much of the influence goes through latents and not through errors.

    Args:
        graph: the graph, with all its nodes.

    Returns:
        The scores. A graph without influence has (0, 0).
    """
    share_MM, weights_M = normalised(graph.edges_MM), graph.weights_M
    influence_M = influence(share_MM, weights_M)
    tokens = float(influence_M[graph.embeddings].sum())
    through = tokens + float(influence_M[graph.errors].sum())
    whole_M = influence_M + weights_M
    explained_M = 1 - share_MM[:, graph.errors].sum(1)
    completeness = float((explained_M * whole_M).sum()) / max(float(whole_M.sum()), _LEAST)
    return Scores(tokens / max(through, _LEAST), completeness)
