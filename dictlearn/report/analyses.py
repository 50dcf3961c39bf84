"""A section for each analysis in the workdir: its figures, then its tables."""

import html
from collections.abc import Mapping
from pathlib import Path

from dictlearn.report.drawn import figure
from dictlearn.report.markup import head, number, table
from dictlearn.runs.workdir import read_json


def sections(workdir: Path) -> list[tuple[str, str, str]]:
    """(id, title, body) of each `analyses/NAME.json`, by name."""
    files = sorted((workdir / "analyses").glob("*.json"))
    return [(f"analysis-{file.stem}", _title(file.stem), _body(file)) for file in files]


def _body(file: Path) -> str:
    record = read_json(file, f"dictlearn analyse {file.stem}")
    alt = f"{_title(file.stem)}, as a figure"
    figures = [figure(file.with_name(name), alt) for name in record["figures"]]
    given = ", ".join(f"{key} = {value}" for key, value in record["settings"].items())
    settings = f'<p class="note">Settings: {html.escape(given)}.</p>' if given else ""
    return "".join([*figures, *map(_table, record["tables"]), settings])


def _title(name: str) -> str:
    return html.escape(name.replace("_", " ").capitalize())


def _table(found: Mapping) -> str:
    columns, rows = found["columns"], found["rows"]
    words = [any(isinstance(row[i], str) for row in rows) for i in range(len(columns))]
    heads = [
        head(html.escape(column), number=not of_words)
        for column, of_words in zip(columns, words, strict=True)
    ]
    title = html.escape(found["title"])
    cells = ["".join(map(_cell, row)) for row in rows]
    return f"<h3>{title}</h3>{table(found['title'], heads, cells, 'sortable')}"


def _cell(value: str | float | None) -> str:
    if isinstance(value, str):
        return f"<td>{html.escape(value)}</td>"
    data = "" if value is None else f' data-value="{value!r}"'
    return f'<td class="number"{data}>{number(value)}</td>'
