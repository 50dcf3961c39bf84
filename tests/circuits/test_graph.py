"""Influence, pruning and scores of graphs worked out by hand; a graph's file."""

import dataclasses
import json

import numpy as np
import pytest

from dictlearn.circuits import graph as graphs
from dictlearn.circuits import groups, viewer
from dictlearn.circuits.graph import Graph, Logit
from dictlearn.circuits.influence import edge_scores, influence, normalised, prune, scores


def made(edges_MM, n_latents: int, n_layers: int, length: int) -> Graph:
    latents_N3 = np.array([[i % n_layers, 0, i] for i in range(n_latents)])
    n_logits = len(edges_MM) - n_latents - (n_layers + 1) * length
    return Graph(
        **{"prompt": "ab", "words": ("a", "b")[:length], "tokens_T": np.arange(length)},
        **{"n_layers": n_layers, "latents_N3": latents_N3, "values_N": np.arange(n_latents) + 1.0},
        logits=tuple(Logit(i, f"t{i}", 1.0 / n_logits) for i in range(n_logits)),
        **{"edges_MM": edges_MM, "n_active": n_latents, "dictionaries": ("one",)},
    )


def twelve():
    """Five latents, four errors (two layers, two tokens), two tokens, one logit."""
    edges_MM = np.zeros((12, 12))
    for target, sources in ((11, (1, 3, 6, 8)), (3, (0, 1, 6)), (1, (9, 10)), (0, (9,))):
        edges_MM[target, list(sources)] = 10
    return made(edges_MM, 5, 2, 2)


def test_influence_and_edge_scores_of_twelve_nodes():
    graph = twelve()
    found = influence(normalised(graph.edges_MM), graph.weights_M)
    wanted = [1 / 12, 1 / 3, 0, 1 / 4, 0, 0, 1 / 3, 0, 1 / 4, 1 / 4, 1 / 6, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    graph.edges_MM[0, 9] = graph.edges_MM[3, 0] = 0
    score_MM = edge_scores(graph.edges_MM, graph.weights_M)
    wanted_MM = np.zeros((12, 12))
    wanted_MM[11, [1, 3, 6, 8]], wanted_MM[3, [1, 6]], wanted_MM[1, [9, 10]] = 0.25, 0.125, 0.1875
    np.testing.assert_allclose(score_MM, wanted_MM, atol=1e-12)


def test_pruning_twelve_nodes_drops_the_least_of_them():
    pruned = prune(twelve(), 0.8, 1.0)
    assert np.flatnonzero(pruned.nodes_M).tolist() == [1, 3, 6, 8, 9, 10, 11]
    assert pruned.edges_MM.sum() == 8
    assert not pruned.edges_MM[3, 0]
    assert pruned.share_M[[1, 6]].tolist() == pytest.approx([0.2, 0.4])


def test_influence_and_scores_of_five_nodes():
    edges_MM = np.zeros((5, 5))
    edges_MM[0, 3], edges_MM[1, 0], edges_MM[1, 2], edges_MM[4, 1], edges_MM[4, 0] = 1, 2, 2, 3, 1
    graph = made(edges_MM, 2, 1, 1)
    found = influence(normalised(edges_MM), graph.weights_M)
    np.testing.assert_allclose(found, [0.625, 0.75, 0.375, 0.625, 0], atol=1e-12)
    assert scores(graph) == pytest.approx((0.625, 0.888889), abs=1e-6)


def layered(seed: int = 0) -> Graph:
    """A random graph whose edges go from earlier to later nodes."""
    rng = np.random.default_rng(seed)
    n, layers, length = 30, 3, 4
    total = n + (layers + 1) * length + 2
    depth = np.concatenate([np.arange(n) % layers, np.repeat(np.arange(layers), length)])
    depth = np.concatenate([depth + 0.5, np.full(length, -1), np.full(2, 9)])
    depth[:n] -= 0.25
    edges_MM = rng.normal(size=(total, total)) ** 3 * (depth[:, None] > depth)
    edges_MM[n:-2] = 0
    return made(edges_MM.astype(np.float32), n, layers, length)


def test_thresholds_of_one_keep_everything_with_influence():
    graph = layered()
    found = influence(normalised(graph.edges_MM), graph.weights_M)
    pruned = prune(graph, 1.0, 1.0)
    always = np.arange(len(graph)) >= graph.embeddings.start
    np.testing.assert_array_equal(pruned.nodes_M, (found > 0) | always)
    scored = edge_scores(graph.edges_MM, graph.weights_M) > 0
    np.testing.assert_array_equal(pruned.edges_MM, scored)


@pytest.mark.parametrize("vary", ["nodes", "edges"])
def test_pruning_is_monotone_in_its_thresholds(vary):
    graph, before = layered(1), None
    for threshold in (1.0, 0.9, 0.7, 0.4, 0.0):
        at = {"node_threshold": threshold} if vary == "nodes" else {"edge_threshold": threshold}
        pruned = prune(graph, **{"node_threshold": 1.0, "edge_threshold": 1.0, **at})
        kept = pruned.nodes_M
        assert not pruned.edges_MM[~kept].any()
        assert not pruned.edges_MM[:, ~kept].any()
        if before is not None:
            assert not (kept & ~before).any()
        before = kept
    assert before.sum() < len(graph) // 2


def test_a_circle_and_a_threshold_outside_its_range_are_refused():
    graph = layered()
    graph.edges_MM[0, 1] = graph.edges_MM[1, 0] = 1e4
    with pytest.raises(ValueError, match="circle"):
        influence(normalised(graph.edges_MM), graph.weights_M)
    with pytest.raises(ValueError, match=r"node_threshold=1.5"):
        prune(layered(), 1.5)


def test_a_graph_comes_back_from_its_file(tmp_path):
    graph = layered()
    graphs.save(graph, tmp_path / "new" / "one.graph")
    found = graphs.load(tmp_path / "new" / "one.graph")
    assert list(found.nodes()) == list(graph.nodes())
    np.testing.assert_array_equal(found.edges_MM, graph.edges_MM)
    assert (found.prompt, found.words, found.logits) == (graph.prompt, graph.words, graph.logits)
    (tmp_path / "other").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="other"):
        graphs.load(tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="none"):
        graphs.load(tmp_path / "none")


def test_the_viewer_gets_nodes_links_and_supernodes(tmp_path):
    graph = dataclasses.replace(layered(), model="toy")
    pruned = prune(graph, 1.0, 0.9)
    path = viewer.write(
        *(pruned, tmp_path, "one"),
        labels={(1, 1): "cats"},
        supernodes={"group": range(3), "none": []},
    )
    viewer.write(prune(graph), tmp_path, "two")
    viewer.write(prune(graph, edge_threshold=0.9), tmp_path, "one")
    listed = json.loads((tmp_path / viewer.LIST).read_text())["graphs"]
    assert [one["slug"] for one in listed] == ["two", "one"]
    found = viewer.document(pruned, "one", labels={(1, 1): "cats"}, supernodes={"group": range(3)})
    assert set(json.loads(path.read_text())) == {"metadata", "qParams", "nodes", "links"}
    ids = [node["node_id"] for node in found["nodes"]]
    assert len(set(ids)) == len(ids)
    links = {(one["source"], one["target"]): one["weight"] for one in found["links"]}
    assert len(links) == pruned.edges_MM.sum()
    assert {end for pair in links for end in pair} <= set(ids)
    first = next(node for node in found["nodes"] if node["node_id"] == "1_1_0")
    assert (first["feature"], first["clerp"], first["activation"]) == (4, "cats", 2.0)
    at = [i for i in range(3) if pruned.nodes_M[i]]
    group = [f"{i % 3}_{i}_0" for i in at]
    assert found["qParams"]["supernodes"] == [["group", *group]]
    assert found["qParams"]["pinnedIds"] == group
    kinds = [node["feature_type"] for node in found["nodes"]]
    assert kinds.count("embedding") == len(graph.tokens_T)
    assert [node["is_target_logit"] for node in found["nodes"][-2:]] == [True, False]
    with pytest.raises(ValueError, match="slug='a/b'"):
        viewer.write(pruned, tmp_path, "a/b")


def test_groups_add_up_and_prompts_share_latents():
    graph = layered()
    found = groups.grouped(graph, {"a": [0, 3], "b": [1, 47]})
    assert found.names[:3] == ("a", "b", "2")
    assert len(found.names) == len(graph) - 2
    assert found.values_G[0] == graph.values_N[[0, 3]].sum()
    between = graph.edges_MM[np.ix_([1, 47], [0, 3])].sum()
    assert found.edges_GG[1, 0] == pytest.approx(between, rel=1e-4, abs=1e-5)
    assert found.edges_GG.sum() == pytest.approx(graph.edges_MM.sum(), rel=1e-3, abs=1e-3)
    assert groups.grouped(graph, {"a": [0, 3]}, rest=False).names == ("a",)
    for wrong, told in (({"a": [0], "b": [0]}, "Node 0"), ({"a": [48]}, "Node 48")):
        with pytest.raises(ValueError, match=told):
            groups.grouped(graph, wrong)
    fewer = dataclasses.replace(
        graph, latents_N3=graph.latents_N3[:2], values_N=2 * graph.values_N[:2]
    )
    assert groups.shared([graph, fewer]) == [
        groups.Shared(0, 0, (1.0, 2.0)),
        groups.Shared(1, 1, (2.0, 4.0)),
    ]
    assert len(groups.shared([graph, fewer], at_least=1)) == 30
    with pytest.raises(ValueError, match="2 sets"):
        groups.shared([graph, dataclasses.replace(graph, model="other")])
