"""The verb `analyse`: runs an analysis of subjects with settings, and prints its tables."""

import ast
import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dictlearn import analyses
from dictlearn.analyses import Subject
from dictlearn.cli.config import misuse


def analyse(config: Mapping, workdir: Path, arguments) -> None:
    """Runs one analysis of the given subjects or of the workdir; without a name, all analyses of the config."""
    if not arguments.words:
        if not config.get("analyses"):
            misuse(
                f"name an analysis, or set config.analyses; there are {', '.join(analyses.names())}."
            )
        every(config, workdir, arguments.allow_changed)
        return
    logging.getLogger("dictlearn.explanations").setLevel(logging.INFO)
    name, *paths = arguments.words
    subjects = [*map(Subject.of, paths)] or [Subject(workdir.name, workdir, setup=config)]
    allowed = arguments.allow_changed
    subjects = [dataclasses.replace(each, allow_changed=allowed) for each in subjects]
    given = {**config.get("analyses", {}).get(name, {}), **_settings(name, arguments.settings)}
    _one(name, subjects, given, workdir)


def every(config: Mapping, workdir: Path, allow_changed: bool = False) -> None:
    """Runs all of `config.analyses` for the run in `workdir`."""
    subject = Subject(workdir.name, workdir, setup=config, allow_changed=allow_changed)
    for name, given in config.get("analyses", {}).items():
        _one(name, [subject], given, workdir)


def _one(name: str, subjects: Sequence[Subject], given: Mapping[str, Any], workdir: Path) -> None:
    result = analyses.run(name, subjects, **given)
    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in result.tables:
        _show(table, console)
    print(f"{name}: {', '.join(map(str, analyses.write(name, result, given, workdir)))}")


def _settings(name: str, words: Sequence[str]) -> dict[str, Any]:
    """The settings from words `--NAME.SETTING=VALUE`, or `--NAME.SETTING.KEY=VALUE` for a key of a subtree.
    Values are Python literals, or else text."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.removeprefix(f"--{name}.").partition("=")
        if not word.startswith(f"--{name}.") or not equals:
            misuse(f"unknown argument {word!r}; settings are --{name}.SETTING=VALUE.")
        *above, last = key.split(".")
        tree = found
        for part in above:
            tree = tree.setdefault(part, {})
        tree[last] = literal(value)
    return found


def literal(text: str) -> Any:
    """A Python literal, or else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _show(table: analyses.Table, console: Console) -> None:
    """Prints a table on a console; a dash for a cell without a value."""
    shown = Table(title=table.title, title_justify="left")
    words = [any(isinstance(row[i], str) for row in table.rows) for i in range(len(table.columns))]
    for column, of_words in zip(table.columns, words, strict=True):
        shown.add_column(column, justify="left" if of_words else "right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*map(_cell, row))
    console.print(shown)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
