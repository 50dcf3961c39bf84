"""The table of a benchmark: the mean of each metric with its interval, and ranks with theirs.

A row has a value for each of its dictionaries, the seeds of a setting, and each draw. These share draws and
dictionaries, so that all together they are no independent sample. The interval of a mean is the wider of two of
Student's: over dictionaries, each the mean of its draws, and over draws, each the mean of the dictionaries.
Where all are exactly equal there is none, because they do not vary: `core` reads the same held-out text of a
run in every draw. A baseline is made by the seed of a draw, and has the draws alone.

A rank is the place of a row's mean among all rows, 1 for the best. Its interval holds 95 % of the ranks when
the dictionaries of each row, and the draws of all rows, are drawn again with replacement.

Axes: D a dictionary of a row, S a draw.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictlearn.analyses._asked import SAID, interval
from dictlearn.suites._cells import Benchmark, kept
from dictlearn.suites._suite import Metric

_DRAWS = 1000
_INSIDE = (0.025, 0.975)


class Row(NamedTuple):
    """A setting or a baseline. kind: "sae", or of a baseline. line: as of its `Entry`. l0: the mean L0
    in each evaluation. mean, half: of each metric, by key; None where it was not measured. seeds: the number of
    its dictionaries, 0 for a baseline. draws: how many."""

    name: str
    kind: str
    line: str
    l0: dict[str, float | None]
    mean: dict[str, float | None]
    half: dict[str, float | None]
    seeds: int
    draws: int


class Summary(NamedTuple):
    """rows: of dictionaries, then of baselines. ranks: {metric or "mean": {row: (rank, low, high)}}, whose ends
    are None without an interval. data: {analysis: {"data", "documents", "cells", "not_run"}}."""

    metrics: tuple[tuple[str, Metric], ...]
    rows: list[Row]
    ranks: dict[str, dict[str, tuple[float, float | None, float | None]]]
    data: dict[str, dict[str, Any]]


def summary(asked: Benchmark, failed: Mapping[str, str]) -> Summary:
    """The table of the cells that there are.

    Args:
        asked: the benchmark.
        failed: {evaluation: why it did not run}, of `run`.

    Returns:
        A Summary.
    """
    cells: dict[str, list[tuple[Any, dict[str, Any]]]] = {}
    for evaluation, entry, seed in asked.cells():
        record = kept(asked.path(evaluation, entry, seed), evaluation, entry, seed)
        found = cells.setdefault(evaluation.analysis, [])
        found += [(entry, record)] if record else []
    metrics = tuple((one.analysis, m) for one in asked.suite.evaluations for m in one.metrics)
    names = list(dict.fromkeys(entry.setting for entry in asked.entries))
    line = {entry.setting: entry.line for entry in asked.entries}
    values = {
        name: {m.key: _values(cells[analysis], name, m.key) for analysis, m in metrics}
        for name in names
    }
    rows = [
        _row(name, "sae", line[name], _l0(cells, name), values[name]) for name in names
    ] + _baselines(cells, names, metrics)
    found = ranks(values, [m for _, m in metrics])
    return Summary(metrics, rows, found, _data(asked, cells, failed))


def _data(
    asked: Benchmark, cells: Mapping[str, Sequence], failed: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """What each evaluation read, how many of its cells there are, and why it did not run."""
    total = len(asked.entries) * len(asked.seeds)
    documents = {name: found[0][1]["documents"] for name, found in cells.items() if found}
    return {
        name: {
            "data": data,
            "documents": documents.get(name, {}),
            "cells": f"{len(cells[name])} of {total}",
            "not_run": failed.get(name, ""),
        }
        for name, _, data, _ in asked.suite.evaluations
    }


def _flat(record: Mapping[str, Any]) -> dict[str, float | None]:
    """The metrics of a record without their categories."""
    groups = record["eval_result_metrics"].values()
    return {key: value for group in groups for key, value in group.items()}


def _values(cells: Sequence, name: str, key: str) -> np.ndarray:
    """A metric of each dictionary of a row and each draw, `[D, S]`, NaN where it was not measured."""
    found = {
        (entry.key, _draw(record)): _flat(record)[key]
        for entry, record in cells
        if entry.setting == name
    }
    own, draws = (list(dict.fromkeys(at[i] for at in found)) for i in (0, 1))
    value = lambda at: np.nan if found.get(at) is None else found[at]
    rows = [[value((one, draw)) for draw in draws] for one in own]
    return np.array(rows, float).reshape(len(own), len(draws))


def _draw(record: Mapping[str, Any]) -> int:
    """The seed of the draw of a cell."""
    return record["cell"]["of"]["settings"]["seed"]


def _l0(cells: Mapping[str, Sequence], name: str) -> dict[str, float | None]:
    of = lambda found: [record["cell"]["l0"] for entry, record in found if entry.setting == name]
    return {analysis: _mean(of(found)) for analysis, found in cells.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None and not np.isnan(value)]
    return float(np.mean(there)) if there else None


def _row(
    name: str,
    kind: str,
    line: str,
    l0: dict[str, float | None],
    values: Mapping[str, np.ndarray],
) -> Row:
    intervals = {key: _interval(value_DS) for key, value_DS in values.items()}
    mean = {key: one[0] for key, one in intervals.items()}
    half = {key: one[1] for key, one in intervals.items()}
    seeds, draws = (max((each.shape[i] for each in values.values()), default=0) for i in (0, 1))
    return Row(name, kind, line, l0, mean, half, seeds if kind == "sae" else 0, draws)


def _interval(value_DS: np.ndarray) -> tuple[float | None, float | None]:
    """(mean, the wider half width: over dictionaries or over draws); None where it is not defined."""
    mean, both = _mean(value_DS.ravel().tolist()), [_means(value_DS, axis) for axis in (1, 0)]
    halves = (interval(each.tolist())[1] for each in both if each.size and np.ptp(each) > 0)
    return mean, max((half for half in halves if half is not None), default=None)


def _means(value_DS: np.ndarray, axis: int) -> np.ndarray:
    """The means along an axis of what was measured, without those of nothing."""
    measured = ~np.isnan(value_DS)
    sums, counts = np.where(measured, value_DS, 0).sum(axis), measured.sum(axis)
    return sums[counts > 0] / counts[counts > 0]


def _baselines(
    cells: Mapping[str, Sequence], names: Sequence[str], metrics: Sequence[tuple[str, Metric]]
) -> list[Row]:
    """The baselines of the cells: first those of all dictionaries, then those beside each row."""
    every = (record["baselines"] for found in cells.values() for _, record in found)
    kinds = [(kind, not row["dictionaries"]) for of in every for kind, row in of.items()]
    kinds = list(dict.fromkeys(kinds))
    rows = [(SAID[kind], kind, True, names) for kind, alone in kinds if alone]
    beside = [kind for kind, alone in kinds if not alone]
    rows += [(f"{SAID[kind]} for {name}", kind, False, [name]) for kind in beside for name in names]
    found = []
    for said, kind, alone, those in rows:
        own = {key: [one for one in each if one[0].setting in those] for key, each in cells.items()}
        of = functools.partial(_of_baseline, kind=kind, alone=alone)
        values = {m.key: of(own[name], key=m.of_row) for name, m in metrics}
        l0 = {name: _mean(of(each, key="l0").ravel().tolist()) for name, each in own.items()}
        found.append(_row(said, kind, "", l0, values))
    return found


def _of_baseline(cells: Sequence, kind: str, alone: bool, key: str) -> np.ndarray:
    """A number of a baseline in each draw, `[1, S]`: the mean over the dictionaries that it is beside."""
    values: dict[int, list[float]] = {}
    for _, record in cells:
        row = record["baselines"].get(kind)
        if row and (not row["dictionaries"]) == alone and row[key] is not None:
            values.setdefault(_draw(record), []).append(row[key])
    return np.array([[float(np.mean(each)) for each in values.values()]])


def ranks(
    values: Mapping[str, Mapping[str, np.ndarray]], metrics: Sequence[Metric]
) -> dict[str, dict[str, tuple[float, float | None, float | None]]]:
    """The ranks of rows by each metric that every cell has, and their mean.

    Args:
        values: {row: {metric: the value of each dictionary and draw, `[D, S]`}}.
        metrics: the metrics.

    Returns:
        {metric or "mean": {row: (rank, the ends of its interval)}}.
    """
    random, names = np.random.default_rng(0), list(values)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for metric in metrics:
        own = [values[name][metric.key] for name in names]
        if all(each.size and not np.isnan(each).any() for each in own):
            found[metric.key] = _places(own, metric.better, random)
    if not found:
        return {}
    whole, drawn = (np.mean(one, axis=0) for one in zip(*found.values(), strict=True))
    several = [all(values[name][key].size > 1 for key in found) for name in names]
    found["mean"] = whole, drawn
    return {key: _ranked(names, *both, several) for key, both in found.items()}


def _again(value_DS: np.ndarray, share_NS: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Means of dictionaries and draws that are drawn again. share_NS: which draws, of 0 to 1."""
    n_own, n_draws = value_DS.shape
    own_ND = random.integers(n_own, size=(_DRAWS, n_own))
    draw_NS = (share_NS[:, :n_draws] * n_draws).astype(int)
    return value_DS[own_ND[:, :, None], draw_NS[:, None]].mean((1, 2))


def _ranked(
    names: Sequence[str], place: np.ndarray, again: np.ndarray, several: Sequence[bool]
) -> dict[str, tuple[float, float | None, float | None]]:
    """The rank of each row with the ends of its interval, which needs several values."""
    low, high = np.quantile(again, _INSIDE, axis=0)
    end = lambda values, i: float(values[i]) if several[i] else None
    return {name: (float(place[i]), end(low, i), end(high, i)) for i, name in enumerate(names)}


def _places(
    values: Sequence[np.ndarray], better: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(the place of each row's mean, the places when dictionaries and draws are drawn again)."""
    from scipy.stats import rankdata

    share_NS = random.random((_DRAWS, max(value_DS.shape[1] for value_DS in values)))
    again = [_again(value_DS, share_NS, random) for value_DS in values]
    place = lambda means: rankdata(-better * means, axis=-1)
    return place(np.array([value_DS.mean() for value_DS in values])), place(np.stack(again, -1))
