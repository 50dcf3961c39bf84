"""The sortable table of all dictionaries, and the spread over seeds."""

import html
from collections.abc import Sequence

from dictlearn import meters
from dictlearn.meters import Column
from dictlearn.report.markup import head, shown, table
from dictlearn.report.records import Record, label, settings, told, varying


def section(records: Sequence[Record]) -> str:
    """The table, what its columns mean, and the spread over seeds if seeds were swept."""
    columns = [c for c in meters.columns() if any(_value(r, c) is not None for r in records)]
    best = {c.metric: _best(records, c) for c in columns}
    usual = [name for name in ("n_latents", "k", "seed") if name in records[0].hparams]
    names = [*usual[:-1], *(n for n in varying(records) if n not in usual), usual[-1]]
    heads = [
        head("name", number=False),
        *(head("latents" if name == "n_latents" else html.escape(name)) for name in names),
        *(head(c.title, c.meaning) for c in columns),
    ]
    rows = [_row(record, names, columns, best) for record in records]
    terms = "".join(f"<dt>{c.title}</dt><dd>{html.escape(c.meaning)}</dd>" for c in columns)
    return (
        f'<p>{_measured(records)} The best value of a column is <b class="best">marked</b>.'
        '<span class="scripted"> Click on a heading to sort.</span></p>'
        f"{table('All dictionaries', heads, rows, 'sortable')}"
        "<details><summary>What the columns mean</summary>"
        f'<dl class="glossary">{terms}</dl></details>{_seeds(records, columns)}'
    )


def _value(record: Record, column: Column) -> float | None:
    return record.metrics.get(column.metric)


def _best(records: Sequence[Record], column: Column) -> float | None:
    """The best value; None for a column without a direction, or if all values are equal."""
    values = {v for r in records if (v := _value(r, column)) is not None}
    if not column.better or len(values) < 2:
        return None
    return max(values) if column.better > 0 else min(values)


def _row(record: Record, names, columns, best) -> str:
    cells = [f'<th scope="row">{html.escape(record.name)}</th>']
    for name in names:
        value = record.hparams.get(name)
        text = "–" if value is None else told(value)
        data = html.escape(str(value))
        cells.append(f'<td class="number" data-value="{data}">{html.escape(text)}</td>')
    for column in columns:
        value = _value(record, column)
        kind = "number best" if value is not None and value == best[column.metric] else "number"
        data = "" if value is None else f' data-value="{value!r}"'
        cells.append(f'<td class="{kind}"{data}>{shown(value, column.form)}</td>')
    return "".join(cells)


def _measured(records: Sequence[Record]) -> str:
    """The number of tokens on which the metrics were measured."""
    return " ".join(meters.notes(records[0].metrics))


def _seeds(records: Sequence[Record], columns: Sequence[Column]) -> str:
    """Mean and half range over seeds, one row for each setting."""
    found = settings(records)
    most = max(len(members) for members in found.values())
    if most < 2:
        return ""
    chosen = [c for c in columns if c.headline]
    heads = [head("setting", number=False), *(head(c.title, c.meaning) for c in chosen)]
    rows = []
    for setting, members in found.items():
        cells = "".join(f'<td class="number">{_spread(members, c)}</td>' for c in chosen)
        rows.append(f'<th scope="row">{html.escape(label(setting))}</th>{cells}')
    return (
        f"<h3>Spread over {most} seeds</h3><p>The mean over seeds, and half the distance between"
        " the largest and the smallest value. A difference between settings that is not well"
        f" above it may be chance.</p>{table('Spread over seeds', heads, rows)}"
    )


def _spread(members: Sequence[Record], column: Column) -> str:
    values = [v for r in members if (v := _value(r, column)) is not None]
    if not values:
        return "–"
    mean, half = sum(values) / len(values), (max(values) - min(values)) / 2
    around = f'<span class="note">± {shown(half, column.form)}</span>'
    return f"{shown(mean, column.form)} {around}"
