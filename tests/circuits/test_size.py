"""Rows that devices share, and the memory of a large graph."""

import tracemalloc

import numpy as np
import pytest

from dictlearn.circuits._backward import Backward
from dictlearn.circuits.attribute import _square, attribute
from dictlearn.circuits.influence import prune, scores
from tests.circuits.test_attribute import LLAMA, TOKENS, case
from tests.circuits.test_graph import made
from tests.helpers import mesh_of


@pytest.mark.parametrize("kind", ["skip", "clt"])
def test_rows_that_eight_devices_share_are_those_of_one(kind, monkeypatch):
    lm, own = case(LLAMA, kind, False)
    one, shapes, placed = attribute(lm, own, TOKENS, batch_size=12), [], Backward._placed

    def seen(self, *targets):
        found = placed(self, *targets)
        shapes.append({each.data.shape for each in found[2].addressable_shards})
        assert len(found[2].sharding.device_set) == 8
        return found

    monkeypatch.setattr(Backward, "_placed", seen)
    split = attribute(lm, own, TOKENS, batch_size=12, mesh=mesh_of(1, 8, 1))
    assert len(shapes) > 2
    assert set.union(*shapes) == {(2, LLAMA.d_model)}
    np.testing.assert_array_equal(split.latents_N3, one.latents_N3)
    np.testing.assert_allclose(split.edges_MM, one.edges_MM, rtol=1e-4, atol=1e-5)


def test_a_large_graph_takes_little_more_memory_than_its_edges():
    """Its rows come in batches by their influence. Pruning takes two copies of the edges, scoring one."""
    n, layers, length, logits = 1500, 3, 4, 2
    random, columns = np.random.default_rng(0), n + (layers + 1) * length
    chosen, edges_RC = random.permutation(n), [random.random((logits, columns), np.float32)]
    for start in range(0, n, 100):
        rows = random.random((100, columns), np.float32)
        edges_RC.append(rows * (np.arange(columns) < chosen[start : start + 100, None]))
    first, size = edges_RC[1][0].copy(), (columns + logits) ** 2 * 4
    graph = made(np.zeros((columns + logits,) * 2, np.float32), n, layers, length)
    graph.edges_MM[:] = peak(lambda: _square(edges_RC, chosen, n, logits), 1.2 * size)
    np.testing.assert_array_equal(graph.edges_MM[chosen[0], :columns], first)
    assert not edges_RC
    peak(lambda: prune(graph), 2.5 * size)
    peak(lambda: scores(graph), 1.5 * size)


def peak(compute, most):
    tracemalloc.start()
    found = compute()
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < most
    return found
