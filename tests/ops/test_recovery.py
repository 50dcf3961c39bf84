"""Planted atoms found again, agreement of runs, and the conditions under which data come apart in one way."""

import numpy as np
import pytest

from dictlearn.analyses.decomposable import conditions
from dictlearn.ops.cosine import nearest
from dictlearn.ops.recovery import consistency, most_active, recovery
from dictlearn.streams.synthetic import draw, plant


def cosines(a, b):
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit(a) @ unit(b).T


def test_recovery_is_the_share_of_true_atoms_with_a_near_one():
    random = np.random.default_rng(0)
    truth = random.standard_normal((30, 8)).astype(np.float32)
    atoms = np.concatenate([3 * truth[:12], random.standard_normal((20, 8))]).astype(np.float32)
    np.testing.assert_allclose(nearest(truth, atoms)[0], cosines(truth, atoms).max(1), atol=1e-6)
    for tau in (0.5, 0.999):
        assert recovery(truth, atoms, tau) == np.mean(cosines(truth, atoms).max(1) >= tau)
    assert recovery(truth, -atoms[:12], 0.9) == 0, "cosines are signed"


def test_consistency_asks_of_every_other_run_and_of_the_active_alone():
    eye = np.eye(6, dtype=np.float32)
    runs = [eye, eye[[0, 1, 2, 3, 0, 0]], eye[[0, 1, 5, 5, 5, 5]]]
    every = [np.arange(6)] * 3
    # In all three runs: atoms 0 and 1. The second run has 0 thrice, the third has 5 four times.
    assert consistency(runs, every, 0.9) == pytest.approx(np.mean([2 / 6, 4 / 6, 2 / 6]))
    assert consistency(runs, [np.arange(2)] * 3, 0.9) == 1
    with pytest.raises(ValueError, match="two or more"):
        consistency(runs[:1], every[:1], 0.9)


def test_the_most_active_are_those_of_the_highest_activation_that_ever_fire():
    largest = np.array([0.0, 3.0, 1.0, 2.0, 0.0])
    assert most_active(largest, 1.0).tolist() == [1, 3, 2]
    assert most_active(largest, 0.3).tolist() == [1]
    with pytest.raises(ValueError, match="share=0"):
        most_active(largest, 0.0)


def test_the_conditions_on_codes_made_by_hand():
    codes = np.array([[3.0, 4, 0], [0, 1, 0], [0, 2, 0], [0, 0, 1]])
    atoms = np.array([[1.0, 0], [0, 2], [3, 4]])
    found = conditions(codes, atoms)
    assert found.row_sparsity == 2
    assert found.least_weight == pytest.approx(0.6)
    assert found.cooccurrence == 1, "feature 0 is never on alone"
    assert found.incoherence == pytest.approx(0.8)
    assert found.bound == pytest.approx(3**-0.5)
    with pytest.raises(ValueError, match=r"\b1\b"):
        conditions(codes[:3], atoms)


def test_balanced_data_is_decomposable_and_imbalanced_data_is_not():
    found = {}
    for kind in ("p5", "p6"):
        planted = plant(kind, seed=0)
        found[kind] = conditions(draw(planted, 20_000, 0)[1], planted.atoms_ND)
    assert found["p5"].row_sparsity == 3
    assert found["p6"].row_sparsity == 20
    assert found["p5"].cooccurrence < 0.6 * found["p5"].bound
    assert found["p6"].cooccurrence > found["p6"].bound
