"""Fits a law to runs: robust least squares, bootstrap intervals and held-out errors.

The objective is the mean Huber loss of the residuals in log L, quadratic below 0.1 % and absolute
beyond, so that one diverged run cannot bend the curve. It is minimised from every point of the law's grid of
starts, all of them at once (`_descend`).

    fit                  the parameters, and the share of starts that found them
    bootstrap            the parameters again, from runs drawn with replacement
    held_out             every run predicted from the cells other than its own
    largest_out          the largest runs predicted from all the smaller ones

A cell is a distinct setting of the inputs; runs of one cell differ by their seeds.

Source: Hoffmann et al. 2022, "Training compute-optimal large language models", appendix D.3.
Differs: BFGS in whitened coordinates in place of L-BFGS.

Axes are as in `law`; arrays are float64 and losses are losses, not their logarithms.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import huber

from dictlearn.scaling._descend import descend
from dictlearn.scaling.law import Inputs, Law, features, log_loss, start_grid

DELTA = 1e-3
"""Where the Huber loss turns from square to absolute: a residual of 0.1 % in L."""

_EXACT = 0.5e-12  # the Huber loss of a residual of 1e-6, where comparing objectives is meaningless


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
    starts_SP = start_grid(law)
    weights_SR = np.full((len(starts_SP), log_losses_R.size), 1.0 / log_losses_R.size)
    ends_SP, values_S = descend(table_ERP, log_losses_R, weights_SR, starts_SP, delta)
    near_S = values_S <= 1.01 * values_S.min() + _EXACT
    return Fit(law, ends_SP[values_S.argmin()], float(values_S.min()), float(near_S.mean()))


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
    starts_AP = np.tile(fitted.theta_P, (n_samples, 1))
    return descend(table_ERP, log_losses_R, counts_AR / n_runs, starts_AP, DELTA)[0]


def held_out(law: Law, inputs: Inputs, losses_R: Any) -> np.ndarray:
    """Predicts each run by a fit to all cells but its own.

    Every fit uses the whole grid of starts, so its start knows nothing of the cell that is left out.

    Args:
        law, inputs, losses_R: as in `fit`.

    Returns:
        Predicted losses [R].
    """
    cell_R = cells(law, inputs)
    out_CR = np.arange(cell_R.max() + 1)[:, None] == cell_R
    return _predict_left_out(law, inputs, losses_R, out_CR)[cell_R, np.arange(cell_R.size)]


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
    return largest_R, _predict_left_out(law, inputs, losses_R, largest_R[None])[0, largest_R]


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


def _predict_left_out(law, inputs, losses_R, out_CR) -> np.ndarray:
    """Losses [C, R] by the best fit to the runs that each row leaves in."""
    losses_R = np.asarray(losses_R, np.float64)
    for out_R in out_CR:
        rest = {name: np.asarray(inputs[name])[~out_R] for name in law.inputs}
        _prepared(law, rest, losses_R[~out_R])
    table_ERP, log_losses_R = _prepared(law, inputs, losses_R)
    starts_SP = start_grid(law)
    weights_CR = ~out_CR / (~out_CR).sum(1, keepdims=True)
    weights_BR = np.repeat(weights_CR, len(starts_SP), axis=0)
    starts_BP = np.tile(starts_SP, (len(out_CR), 1))
    ends_BP, values_B = descend(table_ERP, log_losses_R, weights_BR, starts_BP, DELTA)
    best_C = values_B.reshape(len(out_CR), -1).argmin(1)
    ends_CSP = ends_BP.reshape(len(out_CR), len(starts_SP), -1)
    return np.exp(log_loss(law, ends_CSP[np.arange(len(out_CR)), best_C], inputs))


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
