"""Analyses of trained dictionaries and their model. One file each; `make` finds it by name.

An analysis is a function of its file's name,

    NAME(subjects, *, setting=default, ...) -> Result

whose subjects are `Subject`s: the dictionaries of a run with their metrics, stream and language model, each
read when it is first used. Settings have defaults. `dictlearn analyse NAME` runs one, and so does
`config.analyses = {NAME: settings}`; `write` stores the result in the workdir, where the report reads it. Its
file lists the requirements on such a run in NEEDS, by the words of analyses/_needs.py. A config that does not
meet them is refused before training begins.

    result = dictlearn.analyses.run("similarity", ["runs/a", "runs/b"])
    result.values["measures"]["mmcs_ab"]
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dictlearn.analyses import _needs
from dictlearn.analyses._result import Result, Table, plain
from dictlearn.analyses._subject import Subject
from dictlearn.runs import drawn
from dictlearn.runs.trained import Trained
from dictlearn.runs.workdir import write_json
from dictlearn.streams import Stream

__all__ = [
    "Result",
    "Subject",
    "Table",
    "check",
    "check_run",
    "make",
    "names",
    "run",
    "settings",
    "write",
]


def names() -> list[str]:
    """The names of all analyses: the files of this folder without a leading underscore.

    Returns:
        The names in alphabetical order.

    Example:
        >>> {"frontier", "similarity"} <= set(names())
        True
    """
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def make(name: str) -> Callable[..., Result]:
    """The function of an analysis.

    Args:
        name: an analysis, of `names()`.

    Returns:
        A function of subjects and settings that returns a Result.

    Raises:
        ValueError: for an unknown analysis; the message lists the known ones.

    Example:
        >>> make("frontier").__name__
        'frontier'
    """
    if name not in names():
        raise ValueError(f"unknown analysis {name!r}; there are {', '.join(names())}.")
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)


def settings(name: str) -> dict[str, Any]:
    """The settings of an analysis.

    Args:
        name: an analysis, of `names()`.

    Returns:
        {setting: default}.

    Example:
        >>> settings("recovery")
        {'at': (0.8, 0.9)}
    """
    known = inspect.signature(make(name)).parameters.values()
    return {each.name: each.default for each in known if each.kind is each.KEYWORD_ONLY}


def check(chosen: Mapping[str, Mapping]) -> None:
    """Checks the analyses and the settings of a config.

    Args:
        chosen: `config.analyses`, {name: settings}.

    Raises:
        ValueError: for an unknown analysis or setting; the message lists the known ones.

    Example:
        >>> check({"recovery": {"at": (0.9,)}})
    """
    for name, given in chosen.items():
        known = settings(name)
        if not isinstance(given, Mapping):
            raise ValueError(f"config.analyses.{name}={given!r} must be a subtree of settings.")
        for key in given:
            if key not in known:
                there = ", ".join(known) or "none"
                raise ValueError(f"analyses.{name} has no {key!r}; there are {there}.")


def check_run(chosen: Mapping[str, Mapping], config: Mapping, stream: Stream) -> None:
    """Checks that a run will have what the analyses of its config need.

    Args:
        chosen: `config.analyses`, {name: settings}.
        config: the config of the run.
        stream: its stream.

    Raises:
        ValueError: for a requirement that the run does not meet, with the key that sets it.

    Example:
        >>> from dictlearn import streams
        >>> stream = streams.make("synthetic", kind="p1", batch_size=4, seed=0)
        >>> check_run({"recovery": {}}, {"stream": {"name": "synthetic"}}, stream)
    """
    for name in chosen:
        needs = vars(importlib.import_module(f"{__name__}.{name}")).get("NEEDS", ())
        _needs.refuse(name, needs, config, stream)


def run(name: str, subjects: Sequence[Subject | Trained | str | Path], **settings: Any) -> Result:
    """Runs one analysis.

    Args:
        name: an analysis, of `names()`.
        subjects: its subjects; a path is a workdir, an exported dictionary, or a folder of either.
        settings: settings of the analysis; the others have their defaults.

    Returns:
        A Result with its values as JSON: numbers that are not finite are None.

    Raises:
        ValueError: for an unknown analysis or setting, and for subjects that do not suit the analysis.

    Example:
        >>> import tempfile
        >>> import jax
        >>> from dictlearn import dictionaries, interop
        >>> module = dictionaries.make("relu", d_in=4, n_latents=16, sparsity=0.1)
        >>> x_BD = jax.random.normal(jax.random.key(0), (8, 4))
        >>> trained = Trained(module, module.init(jax.random.key(1), x_BD, method="encode"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     interop.save(trained, f"{folder}/a.npz", "npz")
        ...     result = run("similarity", [f"{folder}/a.npz", f"{folder}/a.npz"])
        >>> round(result.values["measures"]["mmcs_ab"][0][0], 3)
        1.0
    """
    check({name: settings})
    found = make(name)([Subject.of(each) for each in subjects], **settings)
    tables = tuple(table._replace(rows=plain(table.rows)) for table in found.tables)
    return found._replace(values=plain(found.values), tables=tables)


def write(name: str, result: Result, settings: Mapping[str, Any], workdir: Path) -> list[Path]:
    """Writes a result to `workdir/analyses`: NAME.json, and its figures as NAME.svg, NAME_2.svg, ... with
    their numbers in NAME.csv, NAME_2.csv, ...

    Args:
        name: the analysis.
        result: its result.
        settings: the settings that were given, which the file records.
        workdir: the workdir.

    Returns:
        The paths written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in write("mine", Result({"n": 1}), {}, Path(folder))]
        ['mine.json']
    """
    folder = workdir / "analyses"
    folder.mkdir(parents=True, exist_ok=True)
    figures = [
        f"{name}_{n}.svg" if n > 1 else f"{name}.svg" for n in range(1, 1 + len(result.figures))
    ]
    drawings = zip(figures, result.figures, strict=True)
    written = [path for file, figure in drawings for path in drawn.write(figure, folder / file)]
    tables = [table._asdict() for table in result.tables]
    record = {"settings": dict(settings), "values": result.values, "tables": tables}
    write_json(folder / f"{name}.json", plain({**record, "figures": figures}))
    return [folder / f"{name}.json", *written]
