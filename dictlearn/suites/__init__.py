"""Suites of evaluations over many dictionaries. One suite a file; `make` finds it by name.

A suite is a function of its file's name that returns a `Suite`: analyses with their settings, in words what
data they read, and the metrics that are compared. `dictlearn benchmark --suite=NAME` runs one. Its cells are
files (suites/_cells.py), its table has means and ranks with intervals (suites/_summary.py).

    asked = suites.Benchmark(suites.make("packaged"), suites.entries(["runs/a"]), [0], Path("bench"))
    table = suites.summary(asked, suites.run(asked))
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from dictlearn import analyses
from dictlearn.suites._cells import Benchmark, Entry, entries, run
from dictlearn.suites._suite import Evaluation, Metric, Suite
from dictlearn.suites._summary import Row, Summary, summary

__all__ = [
    "Benchmark",
    "Entry",
    "Evaluation",
    "Metric",
    "Row",
    "Suite",
    "Summary",
    "changed",
    "entries",
    "make",
    "names",
    "run",
    "summary",
]


def names() -> list[str]:
    """The names of all suites: the files of this folder without a leading underscore.

    Returns:
        The names in alphabetical order.

    Example:
        >>> names()
        ['packaged', 'saebench']
    """
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def make(name: str) -> Suite:
    """A suite.

    Args:
        name: a suite, of `names()`.

    Returns:
        The Suite.

    Raises:
        ValueError: for an unknown suite; the message lists the known ones.

    Example:
        >>> [one.analysis for one in make("packaged").evaluations]
        ['core', 'sparse_probing', 'scr', 'tpp', 'absorption', 'ravel']
    """
    if name not in names():
        raise ValueError(f"unknown suite {name!r}; there are {', '.join(names())}.")
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)()


def changed(
    suite: Suite, only: list[str] | None = None, settings: Mapping[str, Mapping[str, Any]] = {}
) -> Suite:
    """A suite with some of its evaluations, and with other settings.

    Args:
        suite: the suite.
        only: the analyses that are kept; None for all.
        settings: {analysis: settings} that replace the suite's.

    Returns:
        The Suite.

    Raises:
        ValueError: for an analysis that the suite does not have, and for an unknown setting.

    Example:
        >>> changed(make("packaged"), ["tpp"], {"tpp": {"n_train": 80}}).evaluations[0].settings["n_train"]
        80
    """
    there = [one.analysis for one in suite.evaluations]
    if missing := [name for name in (*(only or ()), *settings) if name not in there]:
        raise ValueError(f"the suite has no {missing[0]!r}; there are {', '.join(there)}.")
    analyses.check(settings)
    own = lambda one: one._replace(settings={**one.settings, **settings.get(one.analysis, {})})
    kept = [own(one) for one in suite.evaluations if one.analysis in (only or there)]
    return suite._replace(evaluations=tuple(kept))
