"""`dictlearn benchmark`: a suite of evaluations over many dictionaries, cell by cell, with a page."""

import functools
import shlex
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dictlearn.cli.analyse import literal

_COMMAS = "with commas between them"
FLAGS = {
    "--suite": {"required": True, "metavar": "NAME", "help": "saebench, or packaged for its data"},
    "--dictionary": {
        "required": True,
        "action": "append",
        "metavar": "PATH",
        "help": "a run, a dictionary of any format, or a folder of them; may be given several times",
    },
    "--model": {"metavar": "NAME|PATH", "default": "", "help": "the model of those without a run"},
    "--tap": {
        "metavar": "NAME",
        "default": "",
        "help": "the tap that they read; default the file's",
    },
    "--seeds": {
        "default": "0,1,2",
        "metavar": "N[,N]",
        "help": f"of the draws, {_COMMAS}; default 0,1,2",
    },
    "--evaluations": {
        "metavar": "NAME[,NAME]",
        "help": f"some of the suite, {_COMMAS}; default all",
    },
    "--setting": {
        "action": "append",
        "default": [],
        "metavar": "NAME.KEY=VALUE",
        "help": "another setting of an evaluation; may be given several times",
    },
    "--out": {"metavar": "DIR", "help": "the folder of the cells; default runs/SUITE"},
}


def benchmark(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Computes the cells that are missing, writes OUT/benchmark.json and .html, and prints the table.

    Raises RuntimeError at the end if an evaluation did not run, with its reason.
    """
    from dictlearn import suites
    from dictlearn.report import benchmark as page
    from dictlearn.runs.workdir import replace

    only = arguments.evaluations.split(",") if arguments.evaluations else None
    suite = suites.changed(suites.make(arguments.suite), only, settings(arguments.setting))
    folder = Path(arguments.out or Path("runs") / arguments.suite)
    seeds = [_seed(word) for word in arguments.seeds.split(",")]
    entries = suites.entries(arguments.dictionary, arguments.model, arguments.tap)
    asked = suites.Benchmark(suite, entries, seeds, folder)
    failed = suites.run(asked, functools.partial(print, flush=True))
    found = suites.summary(asked, failed)
    metrics = [(name, one.key, one.title, one.better) for name, one in found.metrics]
    title, command = f"{arguments.suite}: {len(entries)} dictionaries", _command(arguments)
    shown = page.Shown(title, suite.told, command, metrics, found.rows, found.ranks, found.data)
    replace(folder / "benchmark.json", page.as_json(shown))
    replace(folder / "benchmark.html", page.render(shown))
    _print(shown)
    print(f"benchmark: {folder / 'benchmark.html'}")
    if failed:
        told = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise RuntimeError(f"not every evaluation ran: {told}")


def settings(words: list[str]) -> dict[str, dict[str, Any]]:
    """{evaluation: settings} of words NAME.KEY=VALUE, whose values are Python literals, or else text.

    Raises ValueError for any other word.
    """
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        name, dot, setting = key.partition(".")
        if not (equals and dot and setting):
            raise ValueError(f"--setting={word!r} must be NAME.KEY=VALUE, as core.n_tokens=4096.")
        found.setdefault(name, {})[setting] = literal(value)
    return found


def _seed(word: str) -> int:
    if not word.isdecimal():
        raise ValueError(f"--seeds has {word!r}; seeds are whole numbers, as 0,1,2.")
    return int(word)


def _command(arguments: Namespace) -> str:
    """The command line."""
    words = [f"--suite={arguments.suite}", *(f"--dictionary={one}" for one in arguments.dictionary)]
    for flag in ("model", "tap", "seeds", "evaluations", "out"):
        value = vars(arguments)[flag]
        words += [f"--{flag}={value}"] if value else []
    words += [f"--setting={one}" for one in arguments.setting]
    return shlex.join(["dictlearn", "benchmark", *words])


def _print(shown) -> None:
    table = Table(title=shown.title, title_justify="left")
    table.add_column("dictionary")
    for _, _, title, _ in shown.metrics:
        table.add_column(title, justify="right")
    for row in shown.rows:
        values = [(row.mean[key], row.half[key]) for _, key, _, _ in shown.metrics]
        table.add_row(row.name, *(_value(*pair) for pair in values))
    Console(width=160).print(table)


def _value(mean: float | None, half: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.3f}" if half is None else f"{mean:.3f} \u00b1 {half:.3f}"
