"""Which features each method chooses on planted labels (T-C1, T-C2, T-C3), and where the simple ones fail."""

import numpy as np
import pytest

from dictlearn.ops.sparse_probes import optimal, rankers, sweeps
from dictlearn.ops.sparse_probes.scores import scores


def f1(probe, x_BF, y_B):
    return scores(y_B, probe.logit(x_BF))["f1"]


@pytest.fixture(scope="module")
def three():
    """T-C1: three of a hundred features make the label."""
    random = np.random.default_rng(0)
    x_BF = random.normal(size=(2000, 100))
    return x_BF, x_BF[:, 3] + x_BF[:, 8] - x_BF[:, 50] + 0.1 * random.normal(size=2000) > 0


@pytest.fixture(scope="module")
def redundant():
    """T-C2: features 1 and 2 are copies of one part of the label, feature 3 is the other."""
    random = np.random.default_rng(0)
    x_BF, z_B = random.normal(size=(2000, 12)), random.normal(size=2000)
    x_BF[:, 1:3] = z_B[:, None] + 0.07 * random.normal(size=(2000, 2))
    return x_BF, z_B + 0.7 * x_BF[:, 3] > 0


def test_every_method_finds_three_features_of_a_hundred(three):
    x_BF, y_B = three
    score_F = rankers.mean_difference(x_BF, y_B)
    assert set(sweeps.best(score_F)[:3]) == {3, 8, 50}
    at = (3, 8, 32)
    probe = sweeps.telescopic(x_BF, y_B, score_F, ks=at)[0]
    assert set(probe.support_K) == {3, 8, 50}
    (found,) = optimal.optimal(x_BF, y_B, (3,))
    assert found.support_K.tolist() == [3, 8, 50]
    assert found.value - found.bound <= 1e-4 * found.value
    random = sweeps.heuristic(x_BF, y_B, rankers.random(x_BF, 0), ks=(3,))[0]
    assert f1(probe, x_BF, y_B) > 0.95 > 0.7 > f1(random, x_BF, y_B)


def test_the_best_pair_is_not_the_two_best(redundant):
    x_BF, y_B = redundant
    (pair,) = sweeps.heuristic(x_BF, y_B, rankers.mean_difference(x_BF, y_B), ks=(2,))
    assert set(pair.support_K) == {1, 2}
    assert f1(pair, x_BF, y_B) == pytest.approx(0.80, abs=0.03)
    (found,) = optimal.optimal(x_BF, y_B, (2,))
    assert 3 in found.support_K
    assert set(found.support_K) & {1, 2}
    (probe,) = sweeps.fitted(x_BF, y_B, [found.support_K])
    assert f1(probe, x_BF, y_B) == pytest.approx(0.98, abs=0.015)


def test_the_proved_optimum_is_that_of_trying_all(redundant):
    x_BF, y_B = redundant[0][:300], redundant[1][:300]
    for k, found in zip((1, 2, 3), optimal.optimal(x_BF, y_B, (1, 2, 3)), strict=True):
        every = optimal.exhaustive(x_BF, y_B, k)
        assert found.value == pytest.approx(every.value, rel=1e-4)
        assert found.bound <= every.value * (1 + 1e-9)


def test_an_optimum_without_time_has_an_honest_bound(three):
    x_BF, y_B = three
    (found,) = optimal.optimal(x_BF, y_B, (2,), seconds=0.0)
    (proved,) = optimal.optimal(x_BF, y_B, (2,))
    assert found.bound <= proved.value * (1 + 1e-6) <= found.value * (1 + 1e-6)


def test_pruning_tells_a_cliff_from_a_slope():
    """T-C3."""
    random = np.random.default_rng(0)
    y_B = random.random(3000) < 0.5
    train_B = np.arange(3000) < 2100

    def rounds(carriers, noise):
        x_BF = random.normal(size=(3000, 60))
        x_BF[:, :carriers] = 2.0 * y_B[:, None] - 1 + noise * random.normal(size=(3000, carriers))
        score_F = rankers.mean_difference(x_BF[train_B], y_B[train_B])
        found = sweeps.pruned(x_BF[train_B], y_B[train_B], score_F)
        return [f1(probe, x_BF[~train_B], y_B[~train_B]) for probe in found]

    alone = rounds(1, 0.4)
    assert alone[0] > 0.98
    assert alone[1] == pytest.approx(0.5, abs=0.08)
    copies = rounds(10, 1.2)
    assert copies[0] > 0.93
    assert len(copies) == 10
    assert copies[9] < copies[0] - 0.05
    assert np.diff(copies).min() > -0.1 > -0.4 > np.diff(alone).min()


def test_features_alone_say_which_is_specific():
    random = np.random.default_rng(0)
    y_B = random.random(2000) < 0.5
    narrow_B, wide_B = y_B & (random.random(2000) < 0.4), y_B | (random.random(2000) < 0.4)
    x_BF = np.c_[narrow_B, wide_B, random.random((2000, 3))].astype(float)
    found = sweeps.monosemantic(x_BF, y_B, rankers.f_statistic(x_BF, y_B), n=2)
    told = {int(one.support_K[0]): scores(y_B, one.logit(x_BF)) for one in found}
    assert told.keys() == {0, 1}
    assert told[0]["precision"] == 1 > 0.5 > told[0]["recall"]
    assert told[1]["recall"] == 1 > 0.85 > told[1]["precision"]


def test_a_size_beyond_the_candidates_is_refused(redundant):
    with pytest.raises(ValueError, match=r"k=13 must be in 1..12"):
        optimal.optimal(*redundant, (2, 13))
