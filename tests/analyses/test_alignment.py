"""Similarities of representations: what they do not see, what they do, and the dense form."""

import numpy as np
import pytest

from dictlearn.analyses._alignment import MEASURES, cka, jaccard, matching_score, relative, svcca

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((400, 12)) * np.linspace(0.3, 3, 12) + 1
Y = np.tanh(X @ RANDOM.standard_normal((12, 9))) + 0.3 * RANDOM.standard_normal((400, 9))
Q = np.linalg.qr(RANDOM.standard_normal((12, 12)))[0]
every = pytest.mark.parametrize("measure", list(MEASURES))


@every
def test_a_rotation_and_a_scale_are_not_seen_and_other_tokens_are(measure):
    compare = MEASURES[measure]
    assert compare(X, 2 * X @ Q) == pytest.approx(1, abs=1e-6)
    assert compare(X, X[RANDOM.permutation(len(X))]) < compare(X, Y) < 0.99


@every
@pytest.mark.parametrize("scale", [1e-8, 1e8, 1e15])
def test_float32_activations_of_any_scale_are_compared_alike(measure, scale):
    x, y = (np.float32(scale) * a.astype(np.float32) for a in (X, Y))
    assert MEASURES[measure](x, y) == pytest.approx(MEASURES[measure](X, Y), abs=1e-2)
    assert MEASURES[measure](x, 2 * x) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8])
@pytest.mark.parametrize("compare", [cka, svcca])
def test_rows_that_are_all_equal_are_like_nothing(compare, constant):
    assert np.isnan(compare(np.full_like(X, constant, np.float32), X))


def test_cka_is_the_alignment_of_the_centred_gram_matrices():
    centre = np.eye(len(X)) - 1 / len(X)
    one, other = (centre @ a @ a.T @ centre for a in (X, Y))
    wanted = np.sum(one * other) / np.sqrt(np.sum(one**2) * np.sum(other**2))
    assert cka(X, Y) == pytest.approx(wanted, rel=1e-9)
    assert cka(X, Y) == pytest.approx(cka(Y, X), rel=1e-9)


def test_svcca_is_the_mean_canonical_correlation_of_what_holds_the_variance():
    def reduced(a):
        a = a - a.mean(0)
        value, vector = np.linalg.eigh(a.T @ a)
        held = np.cumsum(value[::-1]) / value.sum()
        return a @ vector[:, ::-1][:, : np.argmax(held >= 0.99) + 1]

    a, b = reduced(X), reduced(Y)
    inverse = lambda a: np.linalg.inv(np.linalg.cholesky(a.T @ a))
    wanted = np.linalg.svd(inverse(a) @ a.T @ b @ inverse(b).T, compute_uv=False).mean()
    assert svcca(X, Y) == pytest.approx(wanted, rel=1e-6)


def test_relative_representations_depend_on_angles_alone():
    lengths = RANDOM.uniform(0.5, 2, (len(X), 1))
    assert relative(X, lengths * X) == 1
    assert relative(X, X + 5) < 0.9


def test_jaccard_and_the_matching_score_count():
    assert jaccard({(0, 1), (0, 2)}, {(0, 2), (1, 2), (3, 3)}) == 1 / 4
    assert jaccard(set(), set()) == 0
    assert matching_score(np.eye(3)) == 1
    assert matching_score(np.eye(3)[[1, 0, 2]]) == pytest.approx(1 / 3)
    assert matching_score(np.array([[3.0, 2], [2, 1], [0, 0]])) == pytest.approx(2 / 5)
