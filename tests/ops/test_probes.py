"""Probes of single columns: against scikit-learn's optimum, and where there is none."""

import numpy as np
import pytest
from scipy.optimize import minimize

from dictlearn.ops.probes import cross_entropy, logistic


def rows(n=4000, seed=0):
    """Labels, and 12 columns of which column 7 is the label with noise."""
    random = np.random.default_rng(seed)
    label_B = random.random(n) < 0.5
    z_BF = random.normal(size=(n, 12)).astype("f")
    z_BF[:, 7] = label_B + 0.12 * z_BF[:, 7]
    return z_BF, label_B


def test_the_column_that_separates_labels_is_found_and_the_others_say_nothing():
    """T-K1 of the specification."""
    z_BF, label_B = rows()
    loss_F = np.asarray(cross_entropy(logistic(z_BF, label_B), z_BF, label_B))
    assert loss_F.argmin() == 7
    assert loss_F[7] < 0.1
    np.testing.assert_allclose(np.delete(loss_F, 7), np.log(2), atol=2e-3)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_probes_are_the_optimum_of_an_unpenalised_regression(scale):
    random = np.random.default_rng(1)
    z_BF = (scale * (3 + random.normal(size=(500, 5)))).astype("f")
    label_B = random.random(500) < 1 / (1 + np.exp(-(z_BF[:, 2] / scale - 3)))
    loss_F = np.asarray(cross_entropy(logistic(z_BF, label_B), z_BF, label_B))
    for f, z_B in enumerate(z_BF.T.astype(float) / scale):
        value = lambda at, z_B=z_B: np.mean(
            np.logaddexp(0, at[0] * z_B + at[1]) - label_B * (at[0] * z_B + at[1])
        )
        assert loss_F[f] == pytest.approx(minimize(value, [0.0, 0.0]).fun, abs=1e-4)


def test_separated_and_constant_columns_and_labels_give_finite_probes():
    label_B = np.arange(40) < 20
    z_BF = np.stack([np.where(label_B, 1.0, -1.0), np.ones(40), np.zeros(40)], 1).astype("f")
    fitted = logistic(z_BF, label_B)
    assert np.isfinite(np.asarray(fitted)).all()
    loss_F = np.asarray(cross_entropy(fitted, z_BF, label_B))
    assert loss_F[0] < 1e-6
    np.testing.assert_allclose(loss_F[1:], np.log(2), atol=1e-6)
    for of_all in (np.ones(40, bool), np.zeros(40, bool)):
        alike = logistic(z_BF, of_all)
        assert np.isfinite(np.asarray(alike)).all()
        assert np.asarray(cross_entropy(alike, z_BF, of_all)).max() < 1e-6
