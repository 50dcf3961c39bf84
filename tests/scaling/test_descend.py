"""A batch of fits ends where SciPy ends with each of them alone."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import huber

from dictlearn.scaling import laws
from dictlearn.scaling._descend import descend
from dictlearn.scaling.law import features, log_loss, start_grid

DELTA = 1e-3
JOINT = laws.make("joint")


def noisy():
    """Twelve cells of two seeds; the noise is the same in every process."""
    n, k, _ = np.array(
        [(n, k, i) for n in (512, 1024, 2048, 4096) for k in (8, 16, 32) for i in (0, 1)]
    ).T
    inputs = {"n": n, "k": k}
    noise = 0.01 * np.random.default_rng(0).normal(size=n.size)
    return inputs, log_loss(JOINT, list(JOINT.example.values()), inputs) + noise


def alone(table_ERP, log_losses_R, weights_R, start_P):
    """The least objective that SciPy finds, in plain coordinates."""

    def objective(theta_P):
        exponent_ER = table_ERP @ theta_P
        predicted_R = np.logaddexp.reduce(exponent_ER, axis=0)
        residual_R = predicted_R - log_losses_R
        slope_ER = (
            np.exp(exponent_ER - predicted_R) * weights_R * np.clip(residual_R, -DELTA, DELTA)
        )
        gradient_P = np.einsum("er,erp->p", slope_ER, table_ERP)
        return 1e6 * (weights_R @ huber(DELTA, residual_R)), 1e6 * gradient_P

    options = {"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-14, "gtol": 1e-12}
    return minimize(objective, start_P, jac=True, method="L-BFGS-B", options=options).fun / 1e6


@pytest.mark.parametrize("law", [JOINT, *JOINT.nested], ids=lambda law: law.name)
def test_the_best_of_a_batch_is_no_higher_than_scipys_best_one_at_a_time(law):
    inputs, log_losses_R = noisy()
    table_ERP, starts_SP = features(law, inputs), start_grid(law)
    n_runs = log_losses_R.size
    counts_BR = np.random.default_rng(1).multinomial(n_runs, np.full(n_runs, 1 / n_runs), 3)
    for weights_R in (np.full(n_runs, 1 / n_runs), *counts_BR / n_runs):
        weights_SR = np.tile(weights_R, (len(starts_SP), 1))
        ends_SP, values_S = descend(table_ERP, log_losses_R, weights_SR, starts_SP, DELTA)
        residual_SR = log_loss(law, ends_SP, inputs) - log_losses_R
        np.testing.assert_allclose(values_S, huber(DELTA, residual_SR) @ weights_R, rtol=1e-6)
        scipys = [alone(table_ERP, log_losses_R, weights_R, start_P) for start_P in starts_SP[::16]]
        assert values_S.min() <= 1.001 * min(scipys)


def test_one_alone_ends_where_it_ends_in_a_batch():
    inputs, log_losses_R = noisy()
    table_ERP, starts_SP = features(JOINT, inputs), start_grid(JOINT)
    weights_SR = np.full((len(starts_SP), log_losses_R.size), 1 / log_losses_R.size)
    ends_SP, _ = descend(table_ERP, log_losses_R, weights_SR, starts_SP, DELTA)
    for i in (0, 17, 63):
        end_P = descend(table_ERP, log_losses_R, weights_SR[:1], starts_SP[i : i + 1], DELTA)[0][0]
        np.testing.assert_allclose(end_P, ends_SP[i], rtol=1e-4, atol=1e-5)
