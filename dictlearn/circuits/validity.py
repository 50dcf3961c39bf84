"""Validity of a graph: what its edges predict of interventions, beside what is measured.

    A[t, s] the edges      a the activations      r = (v - a) / a of the latent that is set to v, else 0
    direct    A r                                  nothing else moves
    total     A (r + d / a),  d = A (r + d / a)    every active latent answers to its changed pre-activation

A latent is set to twice its activation or to zero. With everything held, a graph predicts the direct change of
each active latent's pre-activation, and of each logit less the mean logit, to rounding. In the model as it is,
patterns, denominators, inactive latents and errors move too, and both predictions are compared with the changes
after the latent by their correlation.

Source: Ameisen et al. 2025, "Circuit tracing", validation of graphs by perturbation.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg

from dictlearn.circuits.graph import Graph
from dictlearn.circuits.intervene import Change, intervene
from dictlearn.circuits.local import Local

FACTORS = (0.0, 2.0)
"""What the activation of a latent is multiplied by."""
_TINY = 1e-30


class Validity(NamedTuple):
    """What one intervention shows. node: the latent, as a node. factor: of its activation. error: the largest
    difference between the direct changes as predicted and as measured with everything held, as a share of the
    largest measured one. direct, total: the correlation of the predictions with what is measured in the model
    as it is; None where nothing changes."""

    node: int
    factor: float
    error: float
    direct: float | None
    total: float | None


def validity(graph: Graph, local: Local, n: int = 50, seed: int = 0) -> list[Validity]:
    """Predicted and measured changes under random interventions.

    Args:
        graph: a graph with every active latent, whose logits are tokens.
        local: the local replacement model of its prompt.
        n: the number of interventions, each on a latent that is drawn uniformly.
        seed: the seed of the draws.

    Returns:
        One Validity for each intervention.

    Raises:
        ValueError: for a graph without some active latents or without any, and for one with a direction as a
            target.
    """
    n_latents = len(graph.values_N)
    if not 0 < n_latents == graph.n_active:
        raise ValueError(
            f"The graph has {n_latents} of {graph.n_active} active latents as nodes; raise `most` to have all."
        )
    if any(one.token < 0 for one in graph.logits):
        raise ValueError("A target is a direction, whose change no logit shows; give tokens.")
    random, plain = np.random.default_rng(seed), _changed(graph, local, [])
    drawn = [(int(random.integers(n_latents)), float(random.choice(FACTORS))) for _ in range(n)]
    return [_one(graph, local, plain, node, factor) for node, factor in drawn]


def _one(graph: Graph, local: Local, plain: dict, node: int, factor: float) -> Validity:
    """An intervention. plain: the run without one, by what is held."""
    n = len(graph.values_N)
    rows = [*range(n), *range(graph.targets.start, len(graph))]
    edges_XN = graph.edges_MM[rows][:, :n].astype(np.float64)
    layer, position, latent = map(int, graph.latents_N3[node])
    change = Change(layer, position, latent, factor * float(graph.values_N[node]))
    changed = _changed(graph, local, [change])
    held_X, free_X = (changed[freeze] - plain[freeze] for freeze in ("all", "none"))
    direct_X = (factor - 1) * edges_XN[:, node]
    total_X = (factor - 1) * _answers(edges_XN, graph.values_N, node)
    later_X = np.ones(len(rows), bool)
    later_X[:n] = graph.latents_N3[:, 0] > layer
    off = np.abs(direct_X - held_X).max() / max(np.abs(held_X).max(), _TINY)
    alike = [_correlation(told_X[later_X], free_X[later_X]) for told_X in (direct_X, total_X)]
    return Validity(node, factor, float(off), *alike)


def _answers(edges_XN: np.ndarray, values_N: np.ndarray, node: int) -> np.ndarray:
    """The total change of every target if one latent is changed by its activation: latents are in the order of
    their layers, so each answers to earlier ones only."""
    n = len(values_N)
    share_NN = edges_XN[:n] / values_N.astype(np.float64)
    moved_N = scipy.linalg.solve_triangular(np.eye(n) - share_NN, edges_XN[:n, node], lower=True)
    return edges_XN[:, node] + edges_XN @ (moved_N / values_N)


def _changed(graph: Graph, local: Local, changes: list[Change]) -> dict[str, np.ndarray]:
    """By what is held: pre-activations, and the logits of the targets less the mean logit."""
    tokens, cap, found = [one.token for one in graph.logits], local.lm.spec.logit_cap, {}
    for freeze in ("all", "none"):
        run = intervene(local, changes, freeze)
        logits_V = np.asarray(run.logits_TV[-1], np.float64)
        logits_V = cap * np.arctanh(logits_V / cap) if cap else logits_V
        found[freeze] = np.concatenate([run.pre_N, (logits_V - logits_V.mean())[tokens]])
    return found


def _correlation(told_X: np.ndarray, seen_X: np.ndarray) -> float | None:
    if not (told_X.std() > 0 and seen_X.std() > 0):
        return None
    return float(np.corrcoef(told_X, seen_X)[0, 1])
