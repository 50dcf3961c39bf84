"""The page of attribution graphs: one file without external resources, which draws them with a script.

Layers are rows and tokens columns. A node's size is its influence. The page has what pruning keeps of a graph,
and hides more of it with a slider. Graphs of several prompts stand below each other, and a latent that one of
them shows is marked in the others.
"""

import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from dictlearn.circuits import groups, viewer
from dictlearn.circuits.graph import Graph
from dictlearn.circuits.influence import Pruned, scores
from dictlearn.report.graphs.known import Latent, known
from dictlearn.report.page import asset
from dictlearn.runs.workdir import replace

__all__ = ["known", "latents", "write"]

STYLES = ("style.css", "features/features.css", "graphs/graphs.css")
SCRIPTS = ("graphs/layout.js", "graphs/pins.js", "graphs/detail.js", "graphs/view.js")


def write(
    graphs: Mapping[str, Pruned],
    path: str | Path,
    about: Mapping[Latent, Mapping[str, Any]] | None = None,
    *,
    supernodes: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
) -> Path:
    """Writes the page of the graphs of one or more prompts.

    Args:
        graphs: {name: what pruning keeps of a graph}, of one model and set of dictionaries.
        path: the HTML file.
        about: what is known of each latent, of `known`.
        supernodes: {name of a graph: {name: the indices of its nodes}}, which the page begins with.

    Returns:
        The path.

    Raises:
        ValueError: for no graphs, and for graphs of different models or dictionaries.
    """
    if not graphs:
        raise ValueError("No graphs; give at least one.")
    data = _data(graphs, about or {}, supernodes or {})
    replace(Path(path), _page(next(iter(graphs.values())).graph, data))
    return Path(path)


def latents(graphs: Sequence[Pruned]) -> set[Latent]:
    """The latents that the page of some graphs shows.

    Args:
        graphs: what pruning keeps of each.

    Returns:
        (layer, latent) of each.
    """
    found: set[Latent] = set()
    for one in graphs:
        drawn_M, all_N3 = viewer.drawn(one), one.graph.latents_N3
        rows = all_N3[drawn_M[: len(all_N3)]]
        found |= {(int(layer), int(latent)) for layer, _, latent in rows}
    return found


def _data(
    graphs: Mapping[str, Pruned],
    about: Mapping[Latent, Mapping[str, Any]],
    supernodes: Mapping[str, Mapping[str, Sequence[int]]],
) -> dict[str, Any]:
    """What the script of the page reads."""
    common = groups.shared([one.graph for one in graphs.values()])
    drawn = [_drawn(one, name, supernodes) for name, one in graphs.items()]
    shown = Counter(key for one in drawn for key in _latents(one))
    return {
        "graphs": drawn,
        "threshold": next(iter(graphs.values())).node_threshold,
        "about": {key: about[own] for own in about if (key := _key(*own)) in shown},
        "shared": [list(one) for one in common if shown[_key(one.layer, one.latent)] > 1],
    }


def _page(first: Graph, data: Mapping[str, Any]) -> str:
    n, names = len(data["graphs"]), first.dictionaries
    of = names[0] if len(names) == 1 else f"{len(names)} dictionaries"
    return Template(asset("graphs/page.html")).substitute(
        title=html.escape(data["graphs"][0]["prompt"] if n == 1 else f"{n} prompts"),
        model=html.escape(" · ".join(filter(None, (first.model, of)))),
        style="".join(asset(name) for name in STYLES),
        script="".join(asset(name) for name in SCRIPTS),
        # No text may end the script element.
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _key(layer: int, latent: int) -> str:
    return f"{layer}.{latent}"


def _latents(drawn: Mapping[str, Any]) -> set[str]:
    return {_key(node[2], node[4]) for node in drawn["nodes"] if node[1] == "latent"}


def _drawn(pruned: Pruned, name: str, supernodes: Mapping[str, Mapping]) -> dict[str, Any]:
    """The data of one graph. A node: [name, kind, layer, position, index, value, share of the influence, share
    of what is more influential]."""
    graph, kept = pruned.graph, np.flatnonzero(viewer.drawn(pruned)).tolist()
    ids = viewer.identities(graph)
    own_M = pruned.influence_M / max(float(pruned.influence_M.sum()), np.finfo(np.float32).tiny)
    nodes, place = list(graph.nodes()), {at: i for i, at in enumerate(kept)}
    targets, sources = (ends.tolist() for ends in np.nonzero(pruned.edges_MM))
    before_M = np.maximum(pruned.share_M - own_M, 0)
    short = lambda value: float(f"{value:.4g}")
    return {
        **{"name": name, "prompt": graph.prompt, "words": graph.words, "n_layers": graph.n_layers},
        **{"scores": [short(one) for one in scores(graph)], "n_active": graph.n_active},
        **{"interleaved": graph.interleaved, "logits": [one.text for one in graph.logits]},
        "nodes": [
            [ids[i], *nodes[i][:4], *map(short, (nodes[i].value, own_M[i], before_M[i]))]
            for i in kept
        ],
        "links": [
            *([place[i] for i in ends] for ends in (targets, sources)),
            [short(weight) for weight in graph.edges_MM[targets, sources].tolist()],
        ],
        "groups": {
            title: [place[i] for i in own if i in place]
            for title, own in supernodes.get(name, {}).items()
        },
    }
