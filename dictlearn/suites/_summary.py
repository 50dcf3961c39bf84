"""The table of a benchmark: the mean of each metric with its interval, and ranks with theirs.

The runs of a row are its dictionary seeds times the seeds of the draws. A baseline that is one for all
dictionaries (the channels, where no L0 is matched) has the draws alone. The interval of a mean is Student's. A
rank is the place of a row's mean among all rows, 1 for the best. Its interval holds 95 % of the ranks when the
runs of each row are drawn again with replacement; a row with one run has none.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictlearn.analyses._asked import SAID, interval
from dictlearn.suites._cells import Benchmark, kept
from dictlearn.suites._suite import Metric

_DRAWS = 1000
_INSIDE = (0.025, 0.975)


class Row(NamedTuple):
    """A setting or a baseline. kind: "sae", or of a baseline. release: of a dictionary. l0: the mean L0
    in each evaluation. mean, half: of each metric, by key; None where it was not measured. runs: how many."""

    name: str
    kind: str
    release: str
    l0: dict[str, float | None]
    mean: dict[str, float | None]
    half: dict[str, float | None]
    runs: int


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
    release = {entry.setting: entry.release for entry in asked.entries}
    runs = {
        name: {m.key: _runs(cells[analysis], name, m.key) for analysis, m in metrics}
        for name in names
    }
    rows = [
        _row(name, "sae", release[name], _l0(cells, name), runs[name]) for name in names
    ] + _baselines(cells, names, metrics)
    found = ranks(runs, [m for _, m in metrics])
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


def _runs(cells: Sequence, name: str, key: str) -> list[float]:
    values = [_flat(record)[key] for entry, record in cells if entry.setting == name]
    return [value for value in values if value is not None]


def _l0(cells: Mapping[str, Sequence], name: str) -> dict[str, float | None]:
    of = lambda found: [record["cell"]["l0"] for entry, record in found if entry.setting == name]
    return {analysis: _mean(of(found)) for analysis, found in cells.items()}


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def _row(
    name: str,
    kind: str,
    release: str,
    l0: dict[str, float | None],
    runs: Mapping[str, Sequence[float]],
) -> Row:
    intervals = {key: interval(values) for key, values in runs.items()}
    mean = {key: one[0] for key, one in intervals.items()}
    half = {key: one[1] for key, one in intervals.items()}
    return Row(name, kind, release, l0, mean, half, max(map(len, runs.values()), default=0))


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
        runs = {m.key: _of_baseline(own[name], kind, alone, m.of_row) for name, m in metrics}
        l0 = {name: _mean(_of_baseline(each, kind, alone, "l0")) for name, each in own.items()}
        found.append(_row(said, kind, "", l0, runs))
    return found


def _of_baseline(cells: Sequence, kind: str, alone: bool, key: str) -> list[float]:
    """A number of a baseline in each run. Where it is of all dictionaries, the cells of a draw are one run."""
    values: dict[Any, list[float]] = {}
    for entry, record in cells:
        row = record["baselines"].get(kind)
        if row and (not row["dictionaries"]) == alone and row[key] is not None:
            seed = record["cell"]["of"]["settings"]["seed"]
            values.setdefault(seed if alone else (entry.key, seed), []).append(row[key])
    return [float(np.mean(each)) for each in values.values()]


def ranks(
    runs: Mapping[str, Mapping[str, Sequence[float]]], metrics: Sequence[Metric]
) -> dict[str, dict[str, tuple[float, float | None, float | None]]]:
    """The ranks of rows by each metric that all of them have, and their mean.

    Args:
        runs: {row: {metric: the value of each run}}.
        metrics: the metrics.

    Returns:
        {metric or "mean": {row: (rank, the ends of its interval)}}.
    """
    random, names = np.random.default_rng(0), list(runs)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for metric in metrics:
        values = [np.asarray(runs[name][metric.key], float) for name in names]
        if all(map(len, values)):
            found[metric.key] = _places(values, metric.better, random)
    if not found:
        return {}
    fewest = min(len(one) for each in runs.values() for key, one in each.items() if key in found)
    whole, drawn = (np.mean(one, axis=0) for one in zip(*found.values(), strict=True))
    found["mean"] = whole, drawn
    return {key: _ranked(names, *both, fewest > 1) for key, both in found.items()}


def _ranked(
    names: Sequence[str], place: np.ndarray, again: np.ndarray, several: bool
) -> dict[str, tuple[float, float | None, float | None]]:
    """The rank of each row with the ends of its interval, which needs several runs."""
    low, high = np.quantile(again, _INSIDE, axis=0)
    end = lambda value: float(value) if several else None
    return {name: (float(place[i]), end(low[i]), end(high[i])) for i, name in enumerate(names)}


def _places(
    values: Sequence[np.ndarray], better: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(the place of each row's mean, the places when the runs are drawn again)."""
    from scipy.stats import rankdata

    again = [one[random.integers(len(one), size=(_DRAWS, len(one)))].mean(1) for one in values]
    place = lambda means: rankdata(-better * means, axis=-1)
    return place(np.array([one.mean() for one in values])), place(np.stack(again, axis=-1))
