"""What is told of feature circuits: values, tables and the figure (`feature_circuit`)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from dictlearn.analyses import _draw
from dictlearn.analyses._asked import interval
from dictlearn.analyses._pairs import Point
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses.frontier import between
from dictlearn.circuits.effects import ERROR, Node
from dictlearn.circuits.features import Edge

LATENTS, ALONE, NEURONS = "latents", "latents alone", "neurons"
RANDOM, ORDER = "random dictionary", "random order"
KINDS = (LATENTS, ALONE, NEURONS, RANDOM, ORDER)
MEAN = "mean"
"""The row of all structures together."""


class Found(NamedTuple):
    """A structure. logits_S: m of the held-out pairs in the model. curves: of each kind. nodes: the largest
    effects, of each draw. edges: between those nodes."""

    logits_S: np.ndarray
    curves: dict[str, list[Point]]
    nodes: dict[Node, list[float]]
    edges: list[Edge]


def told(found: Mapping[str, Found], config: Mapping[str, Any], at: int) -> Result:
    """The result of all structures.

    Args:
        found: the structures by name.
        config: the settings, as values.
        at: the number of nodes at which kinds are compared.

    Returns:
        The Result.
    """
    curves = {name: one.curves for name, one in found.items()}
    if len(found) > 1:
        curves[MEAN] = {
            kind: _averaged([one.curves[kind] for one in found.values()]) for kind in KINDS
        }
    rows = [_row(name, kind, curves[name][kind], at) for name in curves for kind in KINDS]
    values = {
        "eval_config": config,
        "structures": {name: _record(one) for name, one in found.items()},
        "at": rows,
    }
    tables = [_task(found), _table(rows, at), _nodes(found), _edges(found)]
    return Result(values, [one for one in tables if one.rows], [_figure(curves)])


def _averaged(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """The means over structures, of each draw."""
    mean = lambda column: np.mean(column, axis=0).tolist()
    return [
        Point(points[0].size, *(mean([one[i] for one in points]) for i in (1, 2, 3)))
        for points in zip(*curves, strict=True)
    ]


def _point(one: Point) -> dict[str, Any]:
    found: dict[str, Any] = {"size": one.size, "nodes": float(np.mean(one.nodes_G))}
    for key, values in (("faithfulness", one.faithfulness_G), ("completeness", one.completeness_G)):
        found[key], found[f"{key}_half"] = interval(values)
    return found


def _row(name: str, kind: str, points: Sequence[Point], at: int) -> dict[str, Any]:
    """A kind at `at` nodes. half_of_it: the nodes of a faithfulness of 0.5, by the curve."""
    told = [_point(one) for one in points]
    (own,) = (one for one in told if one["size"] == at)
    rising = [(one["faithfulness"], math.log(one["nodes"])) for one in told if one["nodes"] > 0]
    half = between(rising, 0.5)
    return {
        "structure": name,
        "kind": kind,
        **own,
        "half_of_it": None if half is None else math.exp(half),
    }


def _name(node: Node) -> str:
    return f"{node.tap} {'error' if node.latent == ERROR else node.latent}"


def _record(one: Found) -> dict[str, Any]:
    """A structure as values. right: how often the model prefers the answer."""
    nodes = [
        {
            "tap": node.tap,
            "latent": node.latent,
            **dict(zip(("effect", "half"), interval(of), strict=True)),
        }
        for node, of in one.nodes.items()
    ]
    return {
        "pairs": len(one.logits_S),
        "right": float((one.logits_S < 0).mean()),
        "logit_difference": float(-one.logits_S.mean()),
        "curves": {kind: list(map(_point, points)) for kind, points in one.curves.items()},
        "nodes": nodes,
        "edges": [(_name(edge.source), _name(edge.target), edge.weight) for edge in one.edges],
    }


def _task(found: Mapping[str, Found]) -> Table:
    keys = ("pairs", "right", "logit_difference")
    records = {name: _record(one) for name, one in found.items()}
    rows = [(name, *(own[key] for key in keys)) for name, own in records.items()]
    return Table(
        "The model on held-out pairs", ("structure", "pairs", "right", "logit difference"), rows
    )


def _table(rows: Sequence[Mapping[str, Any]], at: int) -> Table:
    keys = ("faithfulness", "faithfulness_half", "completeness", "completeness_half")
    columns = (
        "structure",
        "nodes of",
        "nodes",
        "faithfulness",
        "\u00b1",
        "completeness",
        "\u00b1 ",
        "nodes for 0.5",
    )
    cells = [
        (
            row["structure"],
            row["kind"],
            row["nodes"],
            *(row[key] for key in keys),
            row["half_of_it"],
        )
        for row in rows
    ]
    return Table(f"Faithfulness at {at} nodes", columns, cells)


def _nodes(found: Mapping[str, Found]) -> Table:
    rows = [
        (name, _name(node), *interval(effects))
        for name, one in found.items()
        for node, effects in one.nodes.items()
    ]
    return Table("Nodes of largest effect", ("structure", "node", "effect", "\u00b1"), rows)


def _edges(found: Mapping[str, Found]) -> Table:
    rows = [
        (name, _name(edge.source), _name(edge.target), edge.weight)
        for name, one in found.items()
        for edge in one.edges
    ]
    return Table("Edges between them", ("structure", "from", "to", "weight"), rows)


def _figure(curves: Mapping[str, Mapping[str, Sequence[Point]]]) -> Figure:
    figure, panels = _draw.panels(len(curves), width=3.4)
    for axes, (name, own) in zip(panels, curves.items(), strict=True):
        for i, kind in enumerate(KINDS):
            told = map(_point, own[kind])
            points = [(one["nodes"], one["faithfulness"]) for one in told]
            _draw.curve(axes, [one for one in points if one[0] > 0], i, len(KINDS), kind)
        _draw.finish(axes, f"faithfulness, {name}", "nodes")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure
