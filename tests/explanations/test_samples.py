"""Windows to explain and to test: disjoint, by quantile, the same for the same seed."""

import numpy as np
import pytest

from dictlearn.explanations import Sampling, draw
from dictlearn.explanations.samples import SILENT, Example
from tests.explanations.conftest import PLANTED, RANDOM, events_of, texts_of

N, LENGTH = 1000, 8


@pytest.fixture(scope="module")
def ranked():
    """1000 windows whose largest activations are 1 to 1000, in random order, and 1000 silent ones."""
    random = np.random.default_rng(1)
    tokens_ST = random.integers(0, 10**6, size=(2 * N, LENGTH)).astype(np.int32)
    codes_UF = np.zeros((2 * N, LENGTH), np.float32)
    codes_UF[np.arange(N), random.integers(1, LENGTH, size=N)] = 1 + random.permutation(N)
    codes_UF[1, 0] = 5000  # The first token of a sequence is not read.
    return events_of(tokens_ST, codes_UF.reshape(-1, 1))


def rank(example: Example) -> int:
    return round(max(example.vals))


def test_slices_hold_the_ranks_and_train_and_test_are_disjoint(ranked):
    how = Sampling(length=LENGTH, n_train=200, n_test=300)
    found = draw(ranked, 0, texts_of, how)
    for one in (*found.train, *found.test):
        assert 100 * one.quantile < rank(one) <= 100 * (one.quantile + 1)
    assert [sum(e.quantile == q for e in found.test) for q in range(10)] == [30] * 10
    assert [sum(e.quantile == q for e in found.train) for q in range(10)] == [20] * 10
    train, test = ({e.tokens for e in side} for side in (found.train, found.test))
    assert (len(train), len(test), train & test) == (200, 300, set())
    assert [rank(e) for e in found.train] == sorted(map(rank, found.train), reverse=True)
    assert found.largest == N


def test_the_draw_is_a_function_of_seed_and_latent(events):
    draws = [draw(events, RANDOM, texts_of, Sampling(seed=seed)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1]
    assert draws[0].test != draws[2].test


def test_overlap_is_what_the_flag_allows(ranked):
    how = {"length": LENGTH, "n_train": 500, "n_test": 500}
    both = lambda found: {e.tokens for e in found.train} & {e.tokens for e in found.test}
    assert not both(draw(ranked, 0, texts_of, Sampling(**how)))
    assert both(draw(ranked, 0, texts_of, Sampling(**how, overlap=True)))


@pytest.mark.parametrize("train", ["top", "random", "mix"])
def test_train_windows_are_of_their_mode(ranked, train):
    found = draw(ranked, 0, texts_of, Sampling(length=LENGTH, train=train))
    ranks = [rank(one) for one in found.train]
    assert len(ranks) == len(set(ranks)) == 40
    strongest = {"top": 40, "mix": 8}.get(train, 0)
    tested = {rank(one) for one in found.test}
    assert ranks[:strongest] == [r for r in range(N, 0, -1) if r not in tested][:strongest]
    assert train == "top" or min(ranks) < 200


def test_silent_windows_are_silent_and_few_windows_are_shared_alike(ranked):
    found = draw(ranked, 0, texts_of, Sampling(length=LENGTH, n_silent=100, n_contrast=7))
    assert [len(found.silent), len(found.contrast)] == [100, 7]
    assert all(max(e.vals) == 0 and e.quantile == SILENT for e in found.silent + found.contrast)
    assert not {e.tokens for e in found.silent} & {e.tokens for e in found.contrast}
    few = draw(ranked.first(60), 0, texts_of, Sampling(length=LENGTH, n_train=40, n_test=40))
    assert (len(few.train), len(few.test)) == (30, 30)


def test_silent_windows_of_neighbours_have_an_active_neighbour(events):
    how = Sampling(silent="neighbours")
    found = draw(events, PLANTED, texts_of, how, near=[RANDOM])
    fires = {one.tokens for one in draw(events, RANDOM, texts_of, Sampling(n_test=10**6)).test}
    assert found.silent
    assert {e.tokens for e in found.silent} & fires
    assert {e.source for e in found.silent} == {"neighbours"}
    assert not draw(events, PLANTED, texts_of, how, near=[]).silent


def test_a_text_is_drawn_once(ranked):
    tokens_ST = np.repeat(ranked.tokens_ST[:10], 50, axis=0)
    codes_UF = np.ones((tokens_ST.size, 1), np.float32)
    found = draw(events_of(tokens_ST, codes_UF), 0, texts_of, Sampling(length=LENGTH))
    every = [e.tokens for e in (*found.train, *found.test)]
    assert len(every) == len(set(every)) == 10


def test_marks_that_touch_are_one_and_lines_stay_one():
    one = Example((1, 2, 3, 4), ("a", "\n", " b", " c"), (0.0, 2.0, 1.0, 0.1), 0, "fires")
    assert one.marked(one.firing()) == "a<<\\n b>> c"
    assert one.marked([]) == one.text == "a\\n b c"
    assert one.marked([3]) == "a\\n b<< c>>"


@pytest.mark.parametrize("wrong", [{"train": "best"}, {"silent": "hard"}, {"slices": 0}])
def test_a_sampling_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)
