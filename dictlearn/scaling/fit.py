"""Fits a law to runs: robust least squares, bootstrap intervals and held-out errors.

The objective is the mean Huber loss of the residuals in log L, quadratic below 0.1 % and absolute
beyond, so that one diverged run cannot bend the curve. L-BFGS minimises it from every point of the
law's grid of starts, in coordinates that whiten the law's Jacobian at the start. Over a real grid the features
are so nearly collinear that plain coordinates stall in a valley.

    fit                  the parameters, and the share of starts that found them
    bootstrap            the parameters again, from runs drawn with replacement
    held_out             every run predicted from the cells other than its own
    largest_out          the largest runs predicted from all the smaller ones

A cell is a distinct setting of the inputs; runs of one cell differ by their seeds.

Source: Hoffmann et al. 2022, "Training compute-optimal large language models", appendix D.3.
Differs: the whitening, and an objective multiplied by 1e6, so that L-BFGS's absolute tolerances lie
far below the objective of any residual that matters.

Axes are as in `laws`; arrays are float64 and losses are losses, not their logarithms.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import huber

from dictlearn.scaling.laws import Inputs, Law, features, log_loss, start_grid

DELTA = 1e-3
"""Where the Huber loss turns from square to absolute: a residual of 0.1 % in L."""

_OBJECTIVE_SCALE = 1e6
_EXACT = 0.5e-12  # the Huber loss of a residual of 1e-6, where comparing objectives is meaningless
_SMALLEST_SINGULAR = 1e-2  # of the largest: flatter directions are stretched no further than this
_LBFGS = {"maxiter": 500, "maxfun": 1000, "ftol": 1e-10, "gtol": 1e-9, "maxcor": 20}


class Fit(NamedTuple):
    """A fitted law.

    huber: the mean Huber loss in log L. starts_near_best: the share of starts that ended within 1 % of the best
    objective, in (0, 1]; a low share means a rugged objective.
    """

    law: Law
    theta_P: np.ndarray
    huber: float
    starts_near_best: float


def fit(law: Law, inputs: Inputs, losses_R: Any, delta: float = DELTA) -> Fit:
    """Fits a law to runs.

    Args:
        law: the law.
        inputs: the inputs of each run, `[R]`.
        losses_R: the losses.
        delta: the residual from which the Huber loss is linear; a large one makes it least squares.

    Returns:
        A Fit.

    Raises:
        ValueError: for a loss or an input that is not positive and finite, fewer distinct cells than
            parameters, and inputs that vary too little to identify the parameters.
    """
    table_ERP, log_losses_R = _prepared(law, inputs, losses_R)
    weights_R = np.full(log_losses_R.size, 1.0 / log_losses_R.size)
    ends, values = [], []
    for start_P in start_grid(law):
        end_P, value = _descend(table_ERP, log_losses_R, weights_R, start_P, delta)
        ends.append(end_P)
        values.append(value)
    near = np.array(values) <= 1.01 * min(values) + _EXACT
    return Fit(law, ends[np.argmin(values)], float(min(values)), float(near.mean()))


def bootstrap(
    fitted: Fit,
    inputs: Inputs,
    losses_R: Any,
    n_samples: int,
    seed: int,
) -> np.ndarray:
    """Fits the parameters again to runs drawn with replacement; each fit starts from the first one.

    Args:
        fitted: the fit to all runs.
        inputs, losses_R: as in `fit`.
        n_samples: the number of samples A.
        seed: the seed of the draws.

    Returns:
        Parameters [A, P].
    """
    table_ERP, log_losses_R = _prepared(fitted.law, inputs, losses_R)
    n_runs = log_losses_R.size
    uniform_R = np.full(n_runs, 1.0 / n_runs)
    counts_AR = np.random.default_rng(seed).multinomial(n_runs, uniform_R, n_samples)
    samples = [
        _descend(table_ERP, log_losses_R, weights_R, fitted.theta_P, DELTA)[0]
        for weights_R in counts_AR / n_runs
    ]
    return np.array(samples)


def held_out(law: Law, inputs: Inputs, losses_R: Any) -> np.ndarray:
    """Predicts each run by a fit to all cells but its own.

    Every fit uses the whole grid of starts, so its start knows nothing of the cell that is left out.

    Args:
        law, inputs, losses_R: as in `fit`.

    Returns:
        Predicted losses [R].
    """
    losses_R = np.asarray(losses_R, np.float64)
    cell_R = cells(law, inputs)
    predicted_R = np.empty_like(losses_R)
    for cell in range(cell_R.max() + 1):
        predicted_R[cell_R == cell] = _predict_left_out(law, inputs, losses_R, cell_R == cell)
    return predicted_R


def largest_out(law: Law, inputs: Inputs, losses_R: Any, name: str) -> tuple:
    """Predicts the runs with the largest value of an input by a fit to all others.

    Args:
        law, inputs, losses_R: as in `fit`.
        name: the input.

    Returns:
        (mask of these runs, [R]; their predicted losses, in order).
    """
    values_R = np.asarray(inputs[name], np.float64)
    largest_R = values_R == values_R.max()
    predicted = _predict_left_out(law, inputs, np.asarray(losses_R, np.float64), largest_R)
    return largest_R, predicted


def cells(law: Law, inputs: Inputs) -> np.ndarray:
    """The index of the cell of each run, in the order of the inputs.

    Args:
        law, inputs: as in `fit`.

    Returns:
        Indices [R].
    """
    table = np.stack([np.asarray(inputs[name], np.float64) for name in law.inputs], axis=1)
    return np.unique(table, axis=0, return_inverse=True)[1].reshape(-1)


def mean_huber(predicted_R: np.ndarray, losses_R: Any) -> float:
    """The mean Huber loss of predictions, in log L.

    Args:
        predicted_R, losses_R: predicted and measured losses.

    Returns:
        The mean.
    """
    return float(np.mean(huber(DELTA, np.log(predicted_R) - np.log(losses_R))))


def _predict_left_out(law, inputs, losses_R, out_R) -> np.ndarray:
    rest = {name: np.asarray(inputs[name])[~out_R] for name in law.inputs}
    left_out = {name: np.asarray(inputs[name])[out_R] for name in law.inputs}
    return np.exp(log_loss(law, fit(law, rest, losses_R[~out_R]).theta_P, left_out))


def _descend(table_ERP, log_losses_R, weights_R, start_P, delta) -> tuple:
    """One L-BFGS run in the coordinates that whiten the Jacobian at the start."""
    n_terms, n_runs, n_parameters = table_ERP.shape
    start_ER = table_ERP @ start_P
    whiten_PP = _whitening(table_ERP, start_ER, weights_R)
    white_table = (table_ERP @ whiten_PP).reshape(n_terms * n_runs, n_parameters)

    def objective(step_P):
        exponent_ER = start_ER + (white_table @ step_P).reshape(n_terms, n_runs)
        log_loss_R = np.logaddexp.reduce(exponent_ER, axis=0)
        residual_R = log_loss_R - log_losses_R
        slope_R = weights_R * np.clip(residual_R, -delta, delta)
        gradient_P = (np.exp(exponent_ER - log_loss_R) * slope_R).ravel() @ white_table
        value = weights_R @ huber(delta, residual_R)
        return _OBJECTIVE_SCALE * value, _OBJECTIVE_SCALE * gradient_P

    origin_P = np.zeros(n_parameters)
    end = minimize(objective, origin_P, jac=True, method="L-BFGS-B", options=_LBFGS)
    return start_P + whiten_PP @ end.x, end.fun / _OBJECTIVE_SCALE


def _whitening(table_ERP, exponent_ER, weights_R) -> np.ndarray:
    """Directions, one per column, along each of which the log losses change by about one: [P, P]."""
    share_ER = np.exp(exponent_ER - np.logaddexp.reduce(exponent_ER, axis=0))
    jacobian_RP = np.einsum("er,erp->rp", share_ER, table_ERP)
    gram_PP = jacobian_RP.T @ (weights_R[:, None] * jacobian_RP)
    squares_P, directions_PP = np.linalg.eigh(gram_PP)
    return directions_PP / np.sqrt(np.maximum(squares_P, _SMALLEST_SINGULAR**2 * squares_P[-1]))


def _prepared(law: Law, inputs: Inputs, losses_R: Any) -> tuple:
    """The table of features and the log losses, after checks of both."""
    columns = {**{name: inputs[name] for name in law.inputs}, "loss": losses_R}
    for name, values in columns.items():
        values_R = np.asarray(values, np.float64)
        bad = np.flatnonzero(~(np.isfinite(values_R) & (values_R > 0)))
        if bad.size:
            raise ValueError(
                f"{name} is {values_R[bad[0]]} in run {bad[0]} (of runs {bad.tolist()}); laws are "
                "fitted in logarithms: leave out runs whose values are not positive and finite."
            )
    n_cells = int(cells(law, inputs).max()) + 1
    if n_cells < len(law.parameters):
        raise ValueError(
            f"{n_cells} distinct cells of {', '.join(law.inputs)} cannot determine the "
            f"{len(law.parameters)} parameters of the {law.name} law: add cells (seeds do not "
            "count) or fit a poorer law."
        )
    table_ERP = features(law, inputs)
    for term, table_RP in zip(law.terms, table_ERP, strict=True):
        if np.linalg.matrix_rank(table_RP) < len(term):
            raise ValueError(
                f"the runs do not tell {', '.join(term)} apart: {', '.join(law.inputs)} must each "
                "take at least two values, in a grid."
            )
    return table_ERP, np.log(np.asarray(losses_R, np.float64))
