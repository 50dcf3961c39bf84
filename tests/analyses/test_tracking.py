"""Latents followed over checkpoints: what drifts, and what has formed."""

import numpy as np
import pytest

from dictlearn.analyses import tracking

RANDOM = np.random.default_rng(0)


def turned(rows, angle):
    """Rows turned in the plane of their first two coordinates."""
    turn = np.eye(rows.shape[1])
    turn[:2, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    return rows @ turn


def test_drift_is_the_cosine_with_the_last_atoms_latent_by_latent():
    plane = np.zeros((2, 6))
    plane[0, 0], plane[1, 4] = 3.0, 2.0
    found = tracking.drift([turned(plane, angle) for angle in (0.0, 0.3, 0.5)])
    np.testing.assert_allclose(found[:, 0], np.cos([0.5, 0.2, 0.0]), atol=1e-12)
    np.testing.assert_allclose(found[:, 1], 1)
    shuffled = tracking.drift([plane[::-1], plane])
    np.testing.assert_allclose(shuffled[0], 0, atol=1e-12)


def test_top_tokens_are_those_where_a_latent_is_largest():
    codes = np.zeros((9, 2))
    codes[[1, 4, 7], 0] = 3, 5, 4
    codes[[0, 8], 1] = 1, 2
    assert tracking.top_tokens(codes, 2).tolist() == [[4, 7], [8, 0]]
    with pytest.raises(ValueError, match="n=10 exceeds the 9 tokens"):
        tracking.top_tokens(codes, 10)


@pytest.mark.parametrize("measure", tracking.MEASURES)
def test_a_latent_whose_tokens_are_alike_has_formed_and_a_random_one_has_not(measure):
    rows = RANDOM.random((2000, 40)) * (RANDOM.random((2000, 40)) < 0.2)
    rows[:25, :5] += 3.0
    tokens = np.stack([np.arange(25), *(RANDOM.integers(2000, size=25) for _ in range(40))])
    found = tracking.formation(rows, tokens, np.random.default_rng(1), measure)
    assert found[0] > 0.2
    assert abs(found[1:].mean()) < 0.02
    assert np.abs(found[1:]).max() < found[0] / 2


def test_each_measure_has_its_value():
    rows = np.array([[1, 1, 0], [1, 0, 3], [0, 0, 0.0]])
    value = lambda of: of(rows[:2])
    assert value(tracking._cosine) == pytest.approx(1 / np.sqrt(2 * 10))
    assert value(tracking._jaccard) == pytest.approx(1 / 3)
    assert value(tracking._weighted_jaccard) == pytest.approx(1 / 5)


def test_impossible_requests_are_refused_by_name():
    with pytest.raises(ValueError, match="measure='dice' must be one of cosine, jaccard"):
        tracking.formation(np.ones((3, 2)), np.ones((1, 2), int), RANDOM, "dice")
    with pytest.raises(ValueError, match="1 token"):
        tracking.formation(np.ones((3, 2)), np.ones((1, 1), int), RANDOM)
    with pytest.raises(ValueError, match="of one shape"):
        tracking.drift([np.ones((2, 3)), np.ones((3, 3))])
