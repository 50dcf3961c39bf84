"""What is told of the graph of the logit difference: values and tables (`ioi_attributions`).

Axes: G splits, J checked latents, K places, k kinds (latents, errors); the others as in circuits/pooled.py.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictlearn.analyses._asked import interval
from dictlearn.analyses._ioi_places import PLACES
from dictlearn.analyses._result import Result, Table
from dictlearn.circuits import graph as graphs
from dictlearn.circuits.influence import prune, scores
from dictlearn.circuits.pooled import Pooled

KINDS = ("latents", "errors", "embeddings")
LARGEST, RANDOM, BOTH = "largest influence", "random", "both"
_MEASURED = ("direct", "influence", "total", "taken_out")


class Checked(NamedTuple):
    """What was taken out. largest_J, random_J: the latents, those of the largest influence and random ones.
    whole_G: the logit difference. latents_GJ: how much of it goes without each latent, the largest first.
    places_GKk: without all latents, and without all errors, of each place."""

    largest_J: np.ndarray
    random_J: np.ndarray
    whole_G: np.ndarray
    latents_GJ: np.ndarray
    places_GKk: np.ndarray


def told(found: Pooled, checked: Checked, config: Mapping[str, Any]) -> Result:
    """The result.

    Args:
        found: the edges.
        checked: what the model says without some nodes.
        config: the settings, as values.

    Returns:
        The Result.
    """
    influence_GC = found.influence_GC
    share_GC = influence_GC / np.maximum(influence_GC.sum(1, keepdims=True), 1e-30)
    measures = {"direct": found.edges_GRC[:, 0], "influence": share_GC, "total": found.total_GC}
    places = _places(found, checked, measures)
    latents, checks = _latents(found, checked, measures), _checks(checked, measures)
    each = [scores(found.graph(g))._asdict() for g in range(len(checked.whole_G))]
    values = {
        "config": config,
        "logit_difference": interval(checked.whole_G.tolist()),
        "active_latents": len(found.latents_N3),
        **{key: interval([one[key] for one in each]) for key in ("replacement", "completeness")},
        "places": places,
        "latents": latents,
        "checks": checks,
        "graph": _pruned(found.graph()),
    }
    shown = [_by_place(places), _by_latent(latents), _by_choice(checks)]
    return Result(values, [one for one in shown if one.rows])


def _pruned(graph: graphs.Graph) -> dict[str, Any]:
    """The graph in JSON, with the edges that pruning keeps."""
    edges_MM = np.where(prune(graph).edges_MM, graph.edges_MM, 0)
    return graphs.told(dataclasses.replace(graph, edges_MM=edges_MM))


def _row(**values_G: np.ndarray | None) -> dict[str, Any]:
    """Means with the half widths of their intervals."""
    row: dict[str, Any] = {}
    for key, of in values_G.items():
        row[key], row[f"{key}_half"] = (
            (None, None) if of is None else interval(list(map(float, of)))
        )
    return row


def _places(found: Pooled, checked: Checked, measures: Mapping[str, np.ndarray]) -> list[dict]:
    """A row for each place and kind, one for each kind at all places, and what biases add to the target."""
    rows, direct_GC = [], measures["direct"]
    for place in (*range(len(PLACES)), None):
        for kind, name in enumerate(KINDS):
            on_C = (found.kind_C == kind) & (True if place is None else found.place_C == place)
            own = {key: each_GC[:, on_C].sum(1) for key, each_GC in measures.items()}
            known = place is not None and kind < 2
            own["taken_out"] = checked.places_GKk[:, place, kind] if known else None
            at = "all" if place is None else PLACES[place]
            rows.append({"place": at, "kind": name, **_row(**own)})
    own = {"direct": checked.whole_G - direct_GC.sum(1)} | dict.fromkeys(_MEASURED[1:])
    return [*rows, {"place": "all", "kind": "biases", **_row(**own)}]


def _latents(found: Pooled, checked: Checked, measures: Mapping[str, np.ndarray]) -> list[dict]:
    """A row for each latent of the graph, and each checked one of largest influence; the largest first."""
    nodes_X = np.union1d(found.explained_X, checked.largest_J)
    influence_X = measures["influence"].mean(0)[nodes_X]
    taken = dict(zip(checked.largest_J.tolist(), checked.latents_GJ.T, strict=False))
    rows = []
    for node in nodes_X[np.argsort(-influence_X, kind="stable")].tolist():
        layer, place, latent = found.latents_N3[node].tolist()
        own = {key: each_GC[:, node] for key, each_GC in measures.items()}
        at = {"layer": layer, "place": PLACES[place], "latent": latent}
        active = float(found.active_GN[:, node].mean())
        rows.append({**at, "active": active, **_row(**own, taken_out=taken.get(node))})
    return rows


def _checks(checked: Checked, measures: Mapping[str, np.ndarray]) -> list[dict]:
    """A row for each choice of checked latents: the correlation of what the edges and the paths say with what
    goes without each, and the mean size of both."""
    n, nodes_J = len(checked.largest_J), np.append(checked.largest_J, checked.random_J)
    rows = []
    for name, own in ((LARGEST, slice(n)), (RANDOM, slice(n, None)), (BOTH, slice(None))):
        seen_GJ, at_J = checked.latents_GJ[:, own], nodes_J[own]
        alike = {key: correlations(measures[key][:, at_J], seen_GJ) for key in ("direct", "total")}
        sizes = {"predicted": np.abs(measures["total"][:, at_J]), "measured": np.abs(seen_GJ)}
        means = {key: each.mean(1) if len(at_J) else None for key, each in sizes.items()}
        rows.append({"latents": name, "n": len(at_J), **_row(**alike, **means)})
    return rows


def correlations(told_GJ: np.ndarray, seen_GJ: np.ndarray) -> np.ndarray:
    """The correlation over latents in each split where both vary."""
    pairs = zip(told_GJ, seen_GJ, strict=True)
    return np.array(
        [np.corrcoef(a, b)[0, 1] for a, b in pairs if a.size and np.ptp(a) and np.ptp(b)]
    )


def _cells(row: Mapping[str, Any], keys: Sequence[str]) -> list:
    return [row[key + end] for key in keys for end in ("", "_half")]


def _heads(names: Sequence[str]) -> list[str]:
    return [cell for name in names for cell in (name, f"{name} \u00b1")]


def _by_place(rows: Sequence[Mapping[str, Any]]) -> Table:
    heads = ("place", "nodes", *_heads(("direct", "influence", "total", "taken out")))
    cells = [(row["place"], row["kind"], *_cells(row, _MEASURED)) for row in rows]
    return Table("What writes the logit difference", heads, cells)


def _by_latent(rows: Sequence[Mapping[str, Any]]) -> Table:
    heads = ("layer", "place", "latent", "active")
    shown = [row for row in rows if row["taken_out"] is not None]
    cells = [(*(row[key] for key in heads), *_cells(row, _MEASURED)) for row in shown]
    more = _heads(("direct", "influence", "total", "taken out"))
    return Table("Latents of largest influence", (*heads, *more), cells)


def _by_choice(rows: Sequence[Mapping[str, Any]]) -> Table:
    keys = ("direct", "total", "predicted", "measured")
    heads = ("correlation of direct", "correlation of total", "mean |total|", "mean |taken out|")
    cells = [(row["latents"], row["n"], *_cells(row, keys)) for row in rows]
    return Table("Predicted against measured", ("latents", "number", *_heads(heads)), cells)
