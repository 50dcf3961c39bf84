"""Shrinkage ends where the L1 problem's conditions hold, and at the answer of another method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.ops.initialise import unit_rows
from dictlearn.ops.shrinkage import Pull, fista, ista, lipschitz, soft

B, D, F, L1 = 8, 16, 40, 0.3
signs = pytest.mark.parametrize("positive", [True, False])


def data():
    return jax.random.normal(jax.random.key(1), (B, D)), unit_rows(jax.random.key(0), (F, D))


def lasso(z, x, W):
    return np.sum(0.5 * np.sum((x - z @ W) ** 2, 1) + L1 * np.abs(z).sum(1))


def by_coordinates(x, W, positive, pull=0.0, towards=0.0):
    """Coordinate descent on unit atoms, in float64."""
    x, W = np.asarray(x, np.float64), np.asarray(W, np.float64)
    z, towards = np.zeros((len(x), len(W))), np.broadcast_to(towards, (len(x), len(W)))
    for _ in range(2000):
        for f in range(len(W)):
            u = (x - z @ W) @ W[f] + (W[f] @ W[f]) * z[:, f] + 2 * pull * towards[:, f]
            u = np.maximum(u - L1, 0) if positive else np.sign(u) * np.maximum(np.abs(u) - L1, 0)
            z[:, f] = u / (W[f] @ W[f] + 2 * pull)
    return z


@signs
def test_fista_meets_the_conditions_of_the_minimum(positive):
    x, W = data()
    z = fista(x, W, L1, 2000, positive=positive)
    slope = (x - z @ W) @ W.T
    assert float(slope.max()) <= L1 + 1e-4
    if not positive:
        assert float(slope.min()) >= -L1 - 1e-4
    on = np.asarray(z) != 0
    assert 0.05 < on.mean() < 0.6
    np.testing.assert_allclose(np.asarray(slope)[on], (L1 * jnp.sign(z))[on], atol=1e-4)


@signs
def test_fista_is_below_ista_and_at_the_answer_of_coordinate_descent(positive):
    x, W = data()
    best = by_coordinates(x, W, positive)
    fast, slow = (
        lasso(np.asarray(search(x, W, L1, 100, positive=positive)), x, W)
        for search in (fista, ista)
    )
    assert lasso(best, x, W) - 1e-4 < fast <= slow
    with jax.enable_x64(True):
        doubles = (jnp.asarray(np.asarray(a, np.float64)) for a in (x, W))
        found = fista(*doubles, L1, 3000, positive=positive)
    np.testing.assert_allclose(found, best, atol=1e-6)


def test_the_pull_of_psd_moves_the_minimum_as_coordinate_descent_says():
    x, W = data()
    towards = jax.random.normal(jax.random.key(2), (B, F))
    with jax.enable_x64(True):
        x64, W64, t64 = (jnp.asarray(np.asarray(a, np.float64)) for a in (x, W, towards))
        found = fista(x64, W64, L1, 400, positive=False, start_BF=t64, pull=Pull(0.7, t64))
    np.testing.assert_allclose(found, by_coordinates(x, W, False, 0.7, towards), atol=1e-6)


@signs
def test_one_step_on_an_orthonormal_dictionary_is_the_soft_threshold(positive):
    x, _ = data()
    W = jnp.linalg.qr(jax.random.normal(jax.random.key(3), (D, D)))[0]
    for search in (ista, fista):
        z = search(x, W, L1, 1, positive=positive)
        np.testing.assert_allclose(z, soft(x @ W.T, L1, positive), atol=1e-5)


def test_the_power_iteration_finds_the_largest_eigenvalue_from_below():
    _, W = data()
    exact = np.linalg.svd(np.asarray(W), compute_uv=False)[0] ** 2
    assert 0.98 * exact < float(lipschitz(W)) <= exact * (1 + 1e-5)
