"""What a graph predicts of interventions: to rounding with everything held, and of a planted model as it is."""

import dataclasses

import jax
import numpy as np
import pytest

from dictlearn.circuits.attribute import attribute
from dictlearn.circuits.local import local
from dictlearn.circuits.validity import validity
from tests.circuits.test_attribute import CASES, LLAMA, TOKENS, case
from tests.circuits.test_replacement import lm, perfect

__all__ = ["lm"]


def shuffled(graph):
    """The graph with the effects of each latent those of another."""
    n = len(graph.values_N)
    order = np.concatenate([np.roll(np.arange(n), n // 3), np.arange(n, len(graph))])
    return dataclasses.replace(graph, edges_MM=graph.edges_MM[:, order])


@pytest.mark.parametrize(("spec", "kind"), [CASES[1], CASES[3]])
def test_with_everything_held_a_graph_predicts_to_rounding_and_a_shuffled_one_does_not(spec, kind):
    with jax.enable_x64(True):
        model, own = case(spec, kind, True)
        graph, found = attribute(model, own, TOKENS), local(model, own, np.array(TOKENS))
        right, wrong = (validity(one, found, 6) for one in (graph, shuffled(graph)))
    assert max(one.error for one in right) < 1e-8
    assert np.median([one.error for one in wrong]) > 0.1
    assert {one.factor for one in right} == {0.0, 2.0}


def test_where_mlps_are_the_transcoders_the_model_as_it_is_does_what_paths_through_latents_say(lm):
    """No error, and the smaller the change, the fewer latents begin or stop to fire."""
    own, tokens = [perfect(lm, layer) for layer in range(3)], [3, 17, 9, 30, 2]
    graph, found = attribute(lm, own, tokens), local(lm, own, np.array(tokens))
    right, wrong = (validity(one, found, 30) for one in (graph, shuffled(graph)))
    mean = lambda runs, key: np.mean([v for one in runs if (v := getattr(one, key)) is not None])
    assert max(one.error for one in right) < 1e-3
    assert mean(right, "total") > 0.9
    assert mean(right, "total") > mean(right, "direct")
    assert abs(mean(wrong, "total")) < 0.3


def test_a_graph_without_all_latents_and_a_direction_are_refused():
    model, own = case(LLAMA, "skip", False)
    graph, found = attribute(model, own, TOKENS, most=10), local(model, own, np.array(TOKENS))
    with pytest.raises(ValueError, match=r"10 of \d+ active latents"):
        validity(graph, found)
    whole = attribute(model, own, TOKENS)
    away = dataclasses.replace(whole, logits=(whole.logits[0]._replace(token=-1),))
    with pytest.raises(ValueError, match="direction"):
        validity(away, found)
