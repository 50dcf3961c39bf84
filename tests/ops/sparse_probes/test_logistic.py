"""Optima equal scikit-learn's to 1e-4, in one program for many labels, and each error would be seen."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from dictlearn.ops.sparse_probes import logistic, rankers


def examples(seed, b, d, scale=1.0):
    """Correlated columns away from 0, and noisy labels of which a quarter are positive."""
    random = np.random.default_rng(seed)
    x_BD = random.normal(size=(b, d)) @ random.normal(size=(d, d)) / np.sqrt(d) + random.normal(
        size=d
    )
    score_B = x_BD[:, 0] - x_BD[:, -1] + random.normal(size=b)
    return x_BD * scale, score_B > np.quantile(score_B, 0.75)


def sklearns(x_BD, y_B, weight_B=None, solver="newton-cholesky", **settings):
    model = LogisticRegression(solver=solver, tol=1e-10, max_iter=20_000, **settings)
    model.fit(x_BD, y_B, sample_weight=weight_B)
    return model.coef_[0], model.intercept_[0]


@pytest.mark.parametrize(
    ("b", "d", "c", "scale"),
    [
        (300, 8, 1.0, 1.0),
        (300, 8, 1e3, np.logspace(-3, 2, 8)),
        (300, 8, 1e-3, 1.0),
        (40, 60, 1.0, 1.0),
    ],
    ids=["plain", "scales", "strong", "wide"],
)
@pytest.mark.parametrize("classes", [None, "balanced"])
def test_l2_optima_are_sklearns(b, d, c, scale, classes):
    x_BD, y_B = examples(0, b, d, scale)
    weight_1B = None if classes is None else rankers.weights(y_B)[None]
    mine = logistic.labels(x_BD, y_B[None], weight_1B, c=c)
    w_D, b0 = sklearns(x_BD, y_B, C=c, class_weight=classes)
    np.testing.assert_allclose(mine.w_D[0], w_D, rtol=1e-4, atol=1e-5)
    assert mine.b[0] == pytest.approx(b0, abs=1e-4)


def test_a_separated_label_has_a_finite_optimum():
    x_BD = np.random.default_rng(0).normal(size=(200, 3))
    y_B = x_BD[:, 0] > 0
    mine = logistic.labels(x_BD, y_B[None], c=1e4)
    np.testing.assert_allclose(mine.w_D[0], sklearns(x_BD, y_B, C=1e4)[0], rtol=1e-4)


@pytest.mark.parametrize("c", [0.05, 1.0])
def test_l1_optima_are_sklearns(c):
    x_BD, y_B = examples(1, 200, 10)
    mine = logistic.labels(x_BD, y_B[None], c=c, kind="l1")
    w_D, b0 = sklearns(x_BD, y_B, solver="saga", C=c, l1_ratio=1)
    np.testing.assert_allclose(mine.w_D[0], w_D, atol=1e-4)
    assert mine.b[0] == pytest.approx(b0, abs=1e-3)
    assert np.array_equal(np.abs(mine.w_D[0]) > 1e-6, np.abs(w_D) > 1e-6)
    assert np.any(np.abs(mine.w_D[0]) < 1e-9)


def test_the_intercept_is_not_penalised():
    x_BD, y_B = examples(2, 200, 4)
    near, far = (logistic.labels(x_BD + shift, y_B[None]).w_D for shift in (0.0, 50.0))
    np.testing.assert_allclose(near, far, rtol=1e-5)


def test_many_supports_are_one_program_with_the_optimum_of_each():
    x_BF, y_B = examples(3, 150, 6)
    y_QB = np.stack([y_B, x_BF[:, 2] + x_BF[:, 3] > 1, y_B])
    weight_QB = np.ones(y_QB.shape)
    weight_QB[2, ::3] = 0
    support_QK = np.array([[0, 5, 1], [3, -1, -1], [2, 0, -1]])
    mine = logistic.supports(x_BF.astype(np.float32), support_QK, y_QB, weight_QB)
    for q, support_K in enumerate(support_QK):
        used, kept_B = support_K[support_K >= 0], weight_QB[q] > 0
        w_K, b0 = sklearns(x_BF[kept_B][:, used], y_QB[q][kept_B])
        np.testing.assert_allclose(mine.w_D[q][: len(used)], w_K, rtol=1e-4)
        assert mine.b[q] == pytest.approx(b0, abs=1e-4)
        assert not mine.w_D[q][len(used) :].any()


def test_a_label_with_one_class_is_refused():
    with pytest.raises(ValueError, match="label 1 has 4 positive examples of 4"):
        logistic.labels(np.ones((4, 1)), np.array([[1, 0, 1, 0], [1, 1, 1, 1]], bool))
    weight_QB = np.array([[1.0, 0, 1, 0]])
    with pytest.raises(ValueError, match="label 0 has 2 positive examples of 2"):
        logistic.labels(np.ones((4, 1)), np.array([[1, 0, 1, 0]], bool), weight_QB)
