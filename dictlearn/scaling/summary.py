"""A law fitted to runs: the fit, its uncertainty and its checks, as one JSON-ready dict.

A grid of a dozen cells barely determines the six parameters of the joint law. The report therefore states the
uncertainty of every number: bootstrap intervals, predictions of held-out cells, and the same predictions by the
laws that are nested in the fitted one. No law is selected by them.

    identified.irreducible   the irreducible error, at the middle of all inputs but the first, is at
                             least 5 % of the loss at the largest first input and known to within a
                             factor of 1.2, both over its whole interval. If false, the parameters of
                             the floor describe the curve and are not measurements.
    identified.PARAMETER     a level is known to within a factor of 1.2; the interval of an exponent
                             does not contain 0. A parameter of the floor needs its floor as well.
    held_out                 interior cells are interpolated; a cell at the smallest or largest value
                             of an input is extrapolated, and has a larger error.
    competitors              mean Huber loss of the held-out residuals in log L; lower is better.

Source: Gao et al. 2024, section 3.2, for the law; Hoffmann et al. 2022, appendix D.3, for intervals
by bootstrap.
Differs: intervals are 5-95 % and resample runs. On synthetic grids of 30 cells they contain the truth about 90
times in 100. On 12 cells of 2 seeds they do so about 80 times: intervals of small grids are too short.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dictlearn.scaling.fit import bootstrap, cells, fit, held_out, largest_out, mean_huber
from dictlearn.scaling.inputs import INPUTS
from dictlearn.scaling.law import Inputs, Law, log_loss, log_terms, one

IDENTIFIED_FACTOR = 1.2
"""The irreducible error counts as measured when its interval spans at most this factor, ..."""

IDENTIFIED_SHARE = 0.05
"""... and when it is at least this share of the loss, because an error that vanishes has no interval."""

_INTERVAL = (5, 95)
_CURVE_POINTS = 48


def summarise(
    law: Law, runs: Sequence[Mapping[str, Any]], n_bootstrap: int = 1000, seed: int = 0
) -> dict:
    """Fits a law to runs, and reports on the fit.

    Args:
        law: the law.
        runs: dicts of "loss", "seed" and the keys of the law's inputs (`inputs.INPUTS`). Losses are normalised
            mean squared errors. If k is a measured L0, give all seeds of one cell the same value; otherwise
            each run is its own cell, and held-out cells are easy to predict.
        n_bootstrap: the number of bootstrap samples, at least 20.
        seed: the seed of the bootstrap.

    Returns:
        The report as JSON.

    Raises:
        ValueError: for a repeated run, for `n_bootstrap` below 20, and as `fit` does: holding a cell out
            needs at least one cell more than the law has parameters.
    """
    _check(law, runs, n_bootstrap)
    inputs, losses_R = _columns(law, runs), _column(runs, "loss")
    fitted = fit(law, inputs, losses_R)
    predicted_R = np.exp(log_loss(law, fitted.theta_P, inputs))
    every = {each.name: held_out(each, inputs, losses_R) for each in (law, *law.nested)}
    table = _compare(law, runs, every[law.name], np.full(len(runs), True))
    draws_AP = bootstrap(fitted, inputs, losses_R, n_bootstrap, seed)
    floor = irreducible(law, fitted.theta_P, draws_AP, inputs)
    return {
        "name": law.name,
        "law": law.equation,
        "parameters": _parameters(law, fitted.theta_P, draws_AP),
        "derived": _derived(law, fitted.theta_P, draws_AP),
        "irreducible": floor,
        "identified": identified(law, floor, draws_AP),
        "starts_near_best": fitted.starts_near_best,
        "huber": fitted.huber,
        "max_relative_residual": float(np.max(np.abs(predicted_R / losses_R - 1))),
        "held_out": table,
        **_summary(table),
        "largest_out": _largest_out(law, runs, inputs, losses_R),
        "competitors": {name: mean_huber(out_R, losses_R) for name, out_R in every.items()},
        "beside": {name: of(inputs, losses_R) for name, of in law.beside.items()},
        "curves": curves(law, fitted.theta_P, draws_AP, inputs),
        "n_runs": len(runs),
        "n_bootstrap": n_bootstrap,
    }


def curves(law: Law, theta_P: Any, draws_AP: np.ndarray, grid: Inputs) -> dict:
    """The law as lines over the range of the grid, as JSON.

    Args:
        law: the law.
        theta_P: the parameters.
        draws_AP: their bootstrap samples.
        grid: the values of each input.

    Returns:
        {"against_NAME": lines} for each input: a line for each combination of the values of the others, which
        has the inputs by their keys, the loss, and the low and high end of the bootstrap interval.
    """
    values = {name: np.unique(grid[name]) for name in law.inputs}

    def line(at: Inputs) -> dict:
        at = dict(zip(at, np.broadcast_arrays(*at.values()), strict=True))
        loss = np.exp(log_loss(law, theta_P, at))
        low, high = np.percentile(np.exp(log_loss(law, draws_AP, at)), _INTERVAL, axis=0)
        named = {INPUTS[name].key: at[name] for name in law.inputs}
        named |= {"loss": loss, "low": low, "high": high}
        return {name: points.tolist() for name, points in named.items()}

    def lines(along: str) -> list[dict]:
        fine = np.geomspace(values[along].min(), values[along].max(), _CURVE_POINTS)
        names = [name for name in law.inputs if name != along]
        others = [values[name].tolist() for name in names]
        return [
            line({along: fine, **dict(zip(names, chosen, strict=True))})
            for chosen in itertools.product(*others)
        ]

    return {f"against_{name}": lines(name) for name in law.inputs}


def irreducible(law: Law, theta_P: Any, draws_AP: np.ndarray, inputs: Inputs) -> dict | None:
    """The logarithm of the irreducible error, and its share of the loss at the largest first input.

    Args:
        law: the law.
        theta_P: the parameters.
        draws_AP: their bootstrap samples.
        inputs: the inputs of the runs; all but the first are taken at the middle of their range.

    Returns:
        Both, each with its bootstrap interval; None for a law without a floor.
    """
    if not law.floor:
        return None
    first, *others = law.inputs
    corner = {first: np.array([np.max(inputs[first])])}
    corner |= {o: np.array([np.sqrt(np.min(inputs[o]) * np.max(inputs[o]))]) for o in others}
    all_AP = np.vstack([theta_P, draws_AP])
    log_floor_A = log_terms(law, all_AP, corner, law.floor)[:, 0]
    share_A = np.exp(log_floor_A - log_loss(law, all_AP, corner)[:, 0])
    return {
        **{INPUTS[name].key: float(value[0]) for name, value in corner.items()},
        "log_loss": _interval(log_floor_A[0], log_floor_A[1:]),
        "share_of_loss": _interval(share_A[0], share_A[1:]),
    }


def identified(law: Law, floor: Mapping[str, Any] | None, draws_AP: np.ndarray) -> dict:
    """Which parameters, and whether the irreducible error, the runs measure.

    Args:
        law: the law.
        floor: the result of `irreducible`.
        draws_AP: bootstrap samples of the parameters.

    Returns:
        {parameter: answer}, and the answer for "irreducible" if the law has a floor.
    """
    found = {}
    if floor:
        span = floor["log_loss"]["high"] - floor["log_loss"]["low"]
        present = floor["share_of_loss"]["low"] >= IDENTIFIED_SHARE
        found["irreducible"] = bool(span <= np.log(IDENTIFIED_FACTOR) and present)
    levels = {name for term in law.terms for name, feature in term.items() if feature is one}
    for name, samples_A in zip(law.parameters, draws_AP.T, strict=True):
        low, high = np.percentile(samples_A, _INTERVAL)
        narrow = high - low <= np.log(IDENTIFIED_FACTOR) if name in levels else low > 0 or high < 0
        found[name] = bool(narrow and (name not in law.floor or found["irreducible"]))
    return found


def _check(law, runs, n_bootstrap) -> None:
    if n_bootstrap < 20:
        raise ValueError(f"{n_bootstrap=} is below 20, too few for a 5-95 % interval.")
    keys = [INPUTS[name].key for name in law.inputs]
    names = [(*(run[key] for key in keys), run["seed"]) for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}, key=str):
        raise ValueError(
            f"runs ({', '.join(keys)}, seed) {twice} appear more than once: keep one each."
        )
    n_cells, needed = len({name[:-1] for name in names}), len(law.parameters) + 1
    if n_cells < needed:
        raise ValueError(
            f"{n_cells} cells of ({', '.join(keys)}) are too few: the law {law.name} has "
            f"{len(law.parameters)} parameters and one cell is held out, so give at least "
            f"{needed} cells (seeds do not count)."
        )


def _columns(law, runs) -> dict[str, np.ndarray]:
    return {name: _column(runs, INPUTS[name].key) for name in law.inputs}


def _column(runs, name: str) -> np.ndarray:
    return np.array([run[name] for run in runs], np.float64)


def _interval(value: Any, samples_A: np.ndarray) -> dict:
    low, high = np.percentile(samples_A, _INTERVAL)
    return {"value": float(value), "low": float(low), "high": float(high)}


def _parameters(law, theta_P, draws_AP) -> dict:
    columns = zip(law.parameters, theta_P, draws_AP.T, strict=True)
    return {name: _interval(value, samples_A) for name, value, samples_A in columns}


def _derived(law, theta_P, draws_AP) -> dict:
    values, samples = (
        dict(zip(law.parameters, each.T, strict=True)) for each in (theta_P, draws_AP)
    )
    return {name: _interval(of(values), of(samples)) for name, of in law.derived.items()}


def _compare(law, runs, predicted_R: np.ndarray, chosen_R: np.ndarray) -> list[dict]:
    """One row for each cell of the chosen runs: the mean loss over its seeds, and its prediction."""
    grid, losses_R = _columns(law, runs), _column(runs, "loss")
    inside_R = np.all([(x.min() < x) & (x < x.max()) for x in grid.values()], axis=0)
    cell_R, rows = cells(law, grid), []
    for cell in np.unique(cell_R[chosen_R]):
        members = np.flatnonzero(cell_R == cell)
        first, loss = members[0], float(losses_R[members].mean())
        predicted = float(predicted_R[first])
        rows.append(
            {
                **{INPUTS[name].key: runs[first][INPUTS[name].key] for name in law.inputs},
                "loss": loss,
                "predicted": predicted,
                "relative_error": predicted / loss - 1,
                "interior": bool(inside_R[first]),
            }
        )
    return rows


def _summary(table: list[dict]) -> dict:
    """The sizes of the held-out relative errors; None for the interior of a grid without an interior."""
    errors = [abs(row["relative_error"]) for row in table]
    interior = [abs(row["relative_error"]) for row in table if row["interior"]]
    return {
        "held_out_worst": max(errors),
        "held_out_median": float(np.median(errors)),
        "held_out_interior_worst": max(interior) if interior else None,
    }


def _largest_out(law, runs, inputs, losses_R) -> dict | None:
    """The largest first input predicted from the smaller ones; None if they are too few for a fit."""
    first, key = law.inputs[0], INPUTS[law.inputs[0]].key
    smaller_R = inputs[first] < inputs[first].max()
    n_cells = np.unique(cells(law, inputs)[smaller_R]).size
    if n_cells < len(law.parameters) or np.unique(inputs[first][smaller_R]).size < 2:
        return None
    largest_R, predicted = largest_out(law, inputs, losses_R, first)
    predicted_R = np.full(losses_R.size, np.nan)
    predicted_R[largest_R] = predicted
    rows = _compare(law, runs, predicted_R, largest_R)
    return {
        key: rows[0][key],
        "cells": rows,
        "worst": max(abs(row["relative_error"]) for row in rows),
    }
