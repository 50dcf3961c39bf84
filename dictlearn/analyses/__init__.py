"""Analyses: what is asked of trained dictionaries and their model. One a file; `make` finds it by name.

An analysis is a function of its file's name,

    NAME(subjects, *, setting=default, ...) -> Result

whose subjects are `Subject`s: the dictionaries of a run with their metrics, stream and language model, each
read when it is first asked for. Settings have defaults. `dictlearn analyse NAME` runs one, and so does
`config.analyses = {NAME: settings}`; `write` leaves the result in the workdir, where the report finds it.

    result = dictlearn.analyses.run("similarity", ["runs/a", "runs/b"])
    result.values["measures"]["mmcs_ab"]
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dictlearn.analyses._result import Result, Table, plain
from dictlearn.analyses._subject import Subject
from dictlearn.runs.trained import Trained
from dictlearn.runs.workdir import write_json

__all__ = ["Result", "Subject", "Table", "check", "make", "names", "run", "settings", "write"]


def names() -> list[str]:
    """The analyses there are: the files of this folder without a leading underscore."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def make(name: str) -> Callable[..., Result]:
    """The analysis of that name. Raises ValueError for an unknown one, listing what there is."""
    if name not in names():
        raise ValueError(f"unknown analysis {name!r}; there are {', '.join(names())}.")
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)


def settings(name: str) -> dict[str, Any]:
    """{setting: default} of an analysis."""
    known = inspect.signature(make(name)).parameters.values()
    return {each.name: each.default for each in known if each.kind is each.KEYWORD_ONLY}


def check(chosen: Mapping[str, Mapping]) -> None:
    """Raises ValueError for an analysis or a setting of `config.analyses` that there is not."""
    for name, given in chosen.items():
        known = settings(name)
        if not isinstance(given, Mapping):
            raise ValueError(f"config.analyses.{name}={given!r} must be a subtree of settings.")
        for key in given:
            if key not in known:
                there = ", ".join(known) or "none"
                raise ValueError(f"analyses.{name} has no {key!r}; there are {there}.")


def run(name: str, subjects: Sequence[Subject | Trained | str | Path], **settings: Any) -> Result:
    """The result of one analysis.

    Args:
        name: one of `names()`.
        subjects: what it is asked of; a path is a run's workdir, an exported dictionary or a folder of either.
        settings: keyword arguments of the analysis; the rest keep their defaults.

    Returns:
        Its `Result`, the values as JSON has them: numbers that are not finite are None.

    Raises:
        ValueError: for an unknown analysis or setting, and for subjects that it cannot be asked of.

    Example:
        >>> dictlearn.analyses.run("frontier", ["runs/quickstart"], l0=16.0).tables[0].rows
    """
    check({name: settings})
    found = make(name)([Subject.of(each) for each in subjects], **settings)
    tables = tuple(table._replace(rows=plain(table.rows)) for table in found.tables)
    return found._replace(values=plain(found.values), tables=tables)


def write(name: str, result: Result, settings: Mapping[str, Any], workdir: Path) -> list[Path]:
    """Leaves a result in `workdir/analyses`: NAME.json, and its figures as NAME.png, NAME_2.png, ...

    settings: those that were given, which the file records. Returns the paths written."""
    folder = workdir / "analyses"
    folder.mkdir(parents=True, exist_ok=True)
    figures = [
        f"{name}_{n}.png" if n > 1 else f"{name}.png" for n in range(1, 1 + len(result.figures))
    ]
    for file, figure in zip(figures, result.figures, strict=True):
        figure.savefig(folder / file, format="png")
    tables = [table._asdict() for table in result.tables]
    record = {"settings": dict(settings), "values": result.values, "tables": tables}
    write_json(folder / f"{name}.json", plain({**record, "figures": figures}))
    return [folder / f"{name}.json", *(folder / file for file in figures)]
