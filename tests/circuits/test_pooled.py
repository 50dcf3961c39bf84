"""The graph of many prompts: the mean of their graphs, and what the model says where a node is taken out."""

import jax
import numpy as np
import pytest

from dictlearn.circuits.attribute import attribute
from dictlearn.circuits.influence import influence, normalised
from dictlearn.circuits.intervene import Change, Scaling, intervene
from dictlearn.circuits.local import local
from dictlearn.circuits.logits import difference
from dictlearn.circuits.pooled import Prompt, pool
from dictlearn.circuits.removal import Written, removed
from tests.circuits.test_attribute import LLAMA, TOKENS, case

OTHER = [3, 9, 8, 9, 21, 7]
WAYS = ((5, 6), (7, 8))
"""The right and the wrong token of each prompt."""


def prompts(lm, own, places, n_ignored=0, groups=(0, 0)):
    """Two prompts of different lengths."""
    of = zip((TOKENS, OTHER), places, WAYS, groups, strict=True)
    return [
        Prompt(local(lm, own, np.array(t), n_ignored), np.array(at), difference(lm, *way), group)
        for t, at, way, group in of
    ]


def test_where_each_token_is_a_place_it_is_the_graph_of_the_prompt():
    with jax.enable_x64(True):
        lm, own = case(LLAMA, "skip", True)
        chosen = [difference(lm, *WAYS[0])]
        wanted = attribute(lm, own, TOKENS, chosen=chosen, n_ignored=0)
        (prompt, _) = prompts(lm, own, (np.arange(5), np.zeros(6, int)))
        found = pool([prompt], [*"abcde"], 1000)
        graph, kept = found.graph(), found.explained_X
        at = np.concatenate([kept, np.arange(len(wanted.values_N), len(wanted))])
        np.testing.assert_array_equal(graph.latents_N3, wanted.latents_N3[kept])
        np.testing.assert_allclose(graph.values_N, wanted.values_N[kept])
        np.testing.assert_allclose(graph.edges_MM, wanted.edges_MM[np.ix_(at, at)], atol=1e-12)
        whole_M = influence(normalised(wanted.edges_MM), wanted.weights_M)[:-1]
        np.testing.assert_allclose(found.influence_GC[0], whole_M, atol=1e-9)
        # A latent answers to what it reads; sources are in the order of their layers.
        n = len(wanted.values_N)
        reach_MM = wanted.edges_MM[:, :-1] / np.append(
            wanted.values_N, np.ones(len(wanted) - 1 - n)
        )
        total_M, step_M = wanted.edges_MM[-1, :-1].copy(), reach_MM[-1]
        for _ in range(3):
            step_M = np.where(np.arange(len(step_M)) < n, step_M, 0)
            total_M += step_M[:n] @ wanted.edges_MM[:n, :-1]
            step_M = step_M[:n] @ reach_MM[:n]
        np.testing.assert_allclose(found.total_GC[0], total_M, atol=1e-9)
    assert n > len(kept) > 20  # Others have no way to the target.


PLACES = ([0, 1, 1, 0, 2], [0, 1, 0, 0, 0, 2])


def test_a_row_adds_up_to_the_mean_of_its_targets_values():
    """No biases in the model or the decoders, and no token ignored: what is left is the encoder's bias."""
    with jax.enable_x64(True):
        lm, own = case(LLAMA, "skip", True, b_dec=False)
        both = prompts(lm, own, PLACES)
        found = pool(both, "abc", 1000)
        sums_R, whole = found.edges_GRC[0].sum(1), []
        wanted_X = np.zeros(len(found.explained_X))
        for prompt, way in zip(both, WAYS, strict=True):
            model, node_N3 = prompt.local, found.latents_N3[found.explained_X]
            layer_N, position_N, latent_N = model.latents_N3.T
            own_N3 = np.stack([layer_N, prompt.place_T[position_N], latent_N], axis=1)
            read_N = (model.reads_LTD[layer_N, position_N] * model.rows_ND).sum(1)
            for x, node in enumerate(node_N3):
                wanted_X[x] += read_N[(own_N3 == node).all(1)].sum() / 2
            logits_V = model.logits_V
            whole.append(logits_V[way[0]] - logits_V[way[1]])
        np.testing.assert_allclose(sums_R[0], np.mean(whole), atol=1e-9)
        np.testing.assert_allclose(sums_R[1:], wanted_X, atol=1e-9)
        few = pool(both, "abc", 5)
        np.testing.assert_allclose(few.edges_GRC[0, 0], found.edges_GRC[0, 0], atol=1e-9)
        np.testing.assert_allclose(few.edges_GRC[0].sum(1)[0], np.mean(whole), atol=1e-9)
        graph = few.graph()
        assert len(few.explained_X) == len(graph.values_N) == 5
        assert abs(graph.edges_MM[-1].sum() - np.mean(whole)) > 0.1  # Without other latents.
        influence_N = found.influence_GC[0][: len(found.latents_N3)]
        assert influence_N[few.explained_X].min() > np.median(influence_N)


def test_groups_are_apart_and_their_mean_is_the_graph_of_all():
    lm, own = case(LLAMA, "skip", False)
    together = pool(prompts(lm, own, PLACES), "abc", 1000)
    apart = pool(prompts(lm, own, PLACES, groups=(0, 1)), "abc", 1000)
    np.testing.assert_allclose(apart.edges_GRC.mean(0), together.edges_GRC[0], atol=1e-5)
    np.testing.assert_allclose(apart.graph(1).values_N, apart.values_GN[1, apart.explained_X])
    assert set(np.unique(apart.active_GN)) == {0.0, 1.0}
    assert np.abs(apart.graph(0).edges_MM - apart.graph(1).edges_MM).max() > 0.1


@pytest.mark.parametrize("kind", ["skip", "clt"])
def test_what_is_taken_out_of_the_model_is_what_interventions_take_out(kind):
    lm, own = case(LLAMA, kind, False)
    found, tokens_K = local(lm, own, np.array(TOKENS)), np.array([5, 6, 7])
    node, nothing_T = int(np.flatnonzero(found.latents_N3[:, 0] == 0)[-1]), np.zeros(5, bool)
    layer, position, latent = map(int, found.latents_N3[node])
    asked = [
        Written(np.zeros(0, int), nothing_T),
        Written(np.array([node]), nothing_T),
        Written(np.zeros(0, int), np.arange(5) == 3),
    ]
    plain, without, no_errors = removed(found, asked, tokens_K)
    wanted = lambda changes: intervene(found, changes, "none").logits_TV[-1][tokens_K]
    errors = [Scaling("error", each, 3, 0.0) for each in range(2)]
    np.testing.assert_allclose(plain, found.logits_V[tokens_K], atol=1e-4)
    np.testing.assert_allclose(no_errors, wanted(errors), atol=1e-4)
    np.testing.assert_allclose(without, wanted([Change(layer, position, latent, 0.0)]), atol=1e-4)
    assert np.abs(plain - without).max() > 1e-3
    assert np.abs(plain - no_errors).max() > 1e-3
    many = removed(found, asked * 7, tokens_K)
    np.testing.assert_allclose(many, np.tile([plain, without, no_errors], (7, 1)), atol=1e-5)


def test_what_does_not_fit_is_refused():
    lm, own = case(LLAMA, "skip", False)
    (one, _) = prompts(lm, own, PLACES)
    with pytest.raises(ValueError, match="0 prompts"):
        pool([], "abc", 3)
    with pytest.raises(ValueError, match="most=0"):
        pool([one], "abc", 0)
    for place_T in (np.array([0, 1, 2]), np.array([0, 1, 2, 3, 0])):
        with pytest.raises(ValueError, match="3 places for 5 tokens"):
            pool([one._replace(place_T=place_T)], "abc", 3)
    with pytest.raises(ValueError, match="40"):
        difference(lm, 5, 40)
