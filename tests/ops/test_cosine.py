"""Atoms matched by cosine: worked examples, and the dense form."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from dictlearn.ops import cosine

RANDOM = np.random.default_rng(0)
A, B = (RANDOM.standard_normal((n, 16)).astype(np.float32) for n in (40, 56))


def mmcs(a, b):
    return float(cosine.nearest(a, b)[0].mean())


def cosines(a, b):
    return (a / np.linalg.norm(a, axis=1)[:, None]) @ (b / np.linalg.norm(b, axis=1)[:, None]).T


def test_the_worked_example_of_the_specification():
    learnt = np.array([[1, 0, 0], [1, 1, 0]], np.float32)
    true = np.eye(3, dtype=np.float32)
    assert mmcs(learnt, true) == pytest.approx(0.853553, abs=1e-6)
    assert mmcs(true, learnt) == pytest.approx(0.569036, abs=1e-6)
    assert cosine.one_to_one(learnt, true).cosine_P.mean() == pytest.approx(0.853553, abs=1e-6)


def test_nearest_and_one_to_one_equal_the_dense_form_whatever_the_lengths():
    wanted = cosines(A, B)
    scaled = 3 * A * np.linspace(0.1, 2, len(A))[:, None].astype(np.float32)
    cosine_A, to = cosine.nearest(scaled, B)
    np.testing.assert_allclose(cosine_A, wanted.max(1), atol=1e-6)
    np.testing.assert_array_equal(to, wanted.argmax(1))
    pairs = cosine.one_to_one(scaled, B)
    rows, columns = linear_sum_assignment(-wanted)
    np.testing.assert_array_equal(pairs.b_P[np.argsort(pairs.a_P)], columns)
    assert pairs.exact
    assert pairs.cosine_P.mean() == pytest.approx(wanted[rows, columns].mean(), abs=1e-6)
    assert pairs.cosine_P.mean() < mmcs(A, B) < mmcs(A, np.vstack([B, A]))


def test_a_permuted_copy_matches_whole_and_its_negative_does_not():
    order = RANDOM.permutation(len(A))
    pairs = cosine.one_to_one(A, A[order])
    np.testing.assert_array_equal(order[pairs.b_P], pairs.a_P)
    np.testing.assert_allclose(pairs.cosine_P, 1, atol=1e-6)
    assert mmcs(A, A[order]) == pytest.approx(1, abs=1e-6)
    assert mmcs(A, -A) < 0.9
    assert cosine.one_to_one(A[:1], -A[:1]).cosine_P[0] == pytest.approx(-1, abs=1e-6)


def test_large_sides_keep_the_pairs_that_are_each_others_nearest(monkeypatch):
    monkeypatch.setattr(cosine, "EXACT", 8)
    pairs, wanted = cosine.one_to_one(A, B), cosines(A, B)
    mutual = [i for i in range(len(A)) if wanted[:, wanted[i].argmax()].argmax() == i]
    assert not pairs.exact
    np.testing.assert_array_equal(pairs.a_P, mutual)
    np.testing.assert_array_equal(pairs.b_P, wanted[mutual].argmax(1))


def test_an_atom_split_in_two_has_both():
    split = np.vstack([A + 0.05 * B[: len(A)], A[:5] - 0.05 * B[:5]])
    counts = cosine.one_to_many(A, split, 0.7)
    np.testing.assert_array_equal(counts, [2] * 5 + [1] * 35)
    assert cosine.one_to_many(A, split, 1.01).sum() == 0


@pytest.mark.parametrize(("n", "width"), [(1024, 64), (32, 8)])
def test_chance_is_what_random_rows_give(n, width):
    a, b = (RANDOM.standard_normal((rows, width)) for rows in (2000, n))
    assert cosine.by_chance(n, width) == pytest.approx(cosines(a, b).max(1).mean(), rel=0.03)
