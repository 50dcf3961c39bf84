"""Attribution graphs as circuit-tracer's viewer reads them: SLUG.json, and a list in graph-metadata.json.

    metadata    slug, scan, transcoder_list, prompt, prompt_tokens, node_threshold, schema_version
    qParams     linkType, pinnedIds, clickedId, supernodes ([name, node_id, ...]), sg_pos
    nodes       node_id, feature, layer, ctx_idx, feature_type, token_prob, is_target_logit, run_idx,
                reverse_ctx_idx, jsNodeId, clerp (the label), activation, influence (the share of all influence
                that nodes at least as influential carry)
    links       source, target, weight

`feature` is the pair (layer, latent of the layer) as one number, by Cantor's pairing.

Source: decoderesearch/circuit-tracer at 4bb8c0e, `create_graph_files.py`, `graph_models.py`, and `util-cg.js`,
which reads it.
Differs: the id of an error begins with "error", because there it may equal that of a latent of layer 0; an edge
to a node that pruning dropped is never a link.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import files
from dictlearn.circuits.graph import Graph, Node
from dictlearn.circuits.influence import Pruned

LIST = "graph-metadata.json"
_TYPES = {
    "latent": "cross layer transcoder",
    "error": "mlp reconstruction error",
    "token": "embedding",
    "logit": "logit",
}


def document(
    pruned: Pruned,
    slug: str,
    *,
    scan: str = "",
    labels: Mapping[tuple[int, int], str] | None = None,
    supernodes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """The content of the JSON file of a graph.

    Args:
        pruned: what pruning keeps of the graph.
        slug: its name in the viewer.
        scan: the name under which the viewer looks for the features of the latents; empty for the model's.
        labels: {(layer, latent): label}, such as explanations.
        supernodes: {name: the indices of its nodes}. The nodes are pinned; those that were pruned are left out.

    Returns:
        What JSON holds.
    """
    graph, shown = pruned.graph, drawn(pruned)
    nodes, ids = list(graph.nodes()), identities(graph)
    own = {name: [ids[i] for i in group if shown[i]] for name, group in (supernodes or {}).items()}
    targets, sources = np.nonzero(pruned.edges_MM)
    return {
        "metadata": {
            **{"slug": slug, "scan": scan or graph.model, "transcoder_list": []},
            **{"prompt_tokens": list(graph.words), "prompt": graph.prompt},
            **{"node_threshold": pruned.node_threshold, "schema_version": 1},
        },
        "qParams": {
            "pinnedIds": [each for group in own.values() for each in group],
            "supernodes": [[name, *group] for name, group in own.items() if group],
            **{"linkType": "both", "clickedId": "", "sg_pos": ""},
        },
        "nodes": [
            _node(graph, nodes[i], ids[i], i, float(pruned.share_M[i]), labels or {})
            for i in np.flatnonzero(shown).tolist()
        ],
        "links": [
            {"source": ids[s], "target": ids[t], "weight": float(graph.edges_MM[t, s])}
            for t, s in zip(targets, sources, strict=True)
        ],
    }


def drawn(pruned: Pruned) -> np.ndarray:
    """Which nodes a viewer draws: tokens, logits, and of the other nodes that are kept all with an edge.

    Args:
        pruned: what pruning keeps of a graph.

    Returns:
        A boolean for each node.
    """
    drawn_M, free = pruned.nodes_M.copy(), pruned.graph.embeddings.start
    drawn_M[:free] &= np.asarray(pruned.edges_MM.any(0) | pruned.edges_MM.any(1))[:free]
    return drawn_M


def identities(graph: Graph) -> list[str]:
    """The name of every node, which no other node has.

    Args:
        graph: the graph.

    Returns:
        The names, such as "3_17_5" for latent 17 of layer 3 at position 5.
    """
    return [_id(graph, node, at) for at, node in enumerate(graph.nodes())]


def write(pruned: Pruned, folder: str | Path, slug: str, **options: Any) -> Path:
    """Writes SLUG.json into a folder, and adds it to the folder's list.

    Args:
        pruned: what pruning keeps of the graph.
        folder: the folder, the viewer's `graph_file_dir`.
        slug: the name of the graph; it replaces one of the same name.
        options: as in `document`.

    Returns:
        The path of SLUG.json.

    Raises:
        ValueError: for a slug that is no name of a file.
    """
    if not slug or Path(slug).name != slug or slug.startswith("."):
        raise ValueError(f"{slug=} must be a name of a file, without folders.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = document(pruned, slug, **options)
    path, listed = folder / f"{slug}.json", folder / LIST
    known = json.loads(listed.read_text("utf-8"))["graphs"] if listed.exists() else []
    kept = [one for one in known if one["slug"] != slug]
    for target, content in ((path, found), (listed, {"graphs": [*kept, found["metadata"]]})):
        with files.whole(target) as half:
            half.write_text(json.dumps(content, indent=1), "utf-8")
    return path


def _latent(graph: Graph, node: Node) -> int:
    """The number of a latent among those of its layer."""
    return node.index // graph.interleaved


def _id(graph: Graph, node: Node, at: int) -> str:
    ends = {
        "latent": f"{node.layer}_{_latent(graph, node)}_{node.position}",
        "error": f"error_{node.layer}_{node.position}",
        "token": f"E_{node.index}_{node.position}",
        "logit": f"{graph.n_layers + 1}_{_token(graph, node, at)}_{node.position}",
    }
    return ends[node.kind]


def _token(graph: Graph, node: Node, at: int) -> int | str:
    """The token of a logit; a direction is told by its place among the logits."""
    return node.index if node.index >= 0 else f"direction{at - graph.targets.start}"


def _node(
    graph: Graph, node: Node, own: str, at: int, share: float, labels: Mapping[tuple[int, int], str]
) -> dict[str, Any]:
    """What the viewer reads of a node."""
    found: dict[str, Any] = {
        **{"node_id": own, "jsNodeId": own, "feature": -1, "layer": str(node.layer)},
        **{"ctx_idx": node.position, "feature_type": _TYPES[node.kind], "token_prob": 0.0},
        **{"is_target_logit": False, "run_idx": 0, "reverse_ctx_idx": 0, "clerp": ""},
        **{"influence": share, "activation": None},
    }
    if node.kind == "latent":
        latent = _latent(graph, node)
        found |= {"feature": _paired(node.layer, latent), "activation": node.value}
        found |= {"jsNodeId": f"{node.layer}_{latent}-0"}
        found |= {"clerp": labels.get((node.layer, node.index), "")}
    if node.kind == "error":
        found["jsNodeId"] = f"{node.layer}_{node.position}-0"
    if node.kind == "token":
        found |= {
            "layer": "E",
            "feature": node.position,
            "jsNodeId": f"E_{node.index}-{node.position}",
        }
    if node.kind == "logit":
        one = graph.logits[at - graph.targets.start]
        found |= {"layer": str(graph.n_layers + 1), "feature": max(node.index, 0)}
        found |= {"is_target_logit": at == graph.targets.start, "token_prob": node.value}
        found |= {"jsNodeId": f"L_{_token(graph, node, at)}-{node.position}", "influence": None}
        found |= {"clerp": f'Output "{one.text}" (p={node.value:.3f})'}
    return found


def _paired(a: int, b: int) -> int:
    """Cantor's pairing."""
    return (a + b) * (a + b + 1) // 2 + b
