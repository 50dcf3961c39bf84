"""The table of all dictionaries, sortable, and how far seeds move a setting."""

import html
from collections.abc import Sequence
from typing import NamedTuple

from dictlearn.report.markup import head, shown, table
from dictlearn.report.records import Record, label, settings, varying


class Column(NamedTuple):
    """A metric as a column. form: how a value is shown, shares in per cent. better: 1 if more is
    better, -1 if less is, 0 where neither is."""

    metric: str
    title: str
    meaning: str
    form: str
    better: int


COLUMNS = (
    Column("explained_variance", "EV", "explained variance, 1 − FVU", ".4f", 1),
    Column("fvu", "FVU", "fraction of variance unexplained", ".4f", -1),
    Column("cossim", "cosine", "mean cosine of activation and reconstruction", ".4f", 1),
    Column("l0", "L0", "mean number of active latents on a token", ".1f", 0),
    Column("dead_fraction", "dead", "latents that never fired on the tokens measured", ".1%", -1),
    Column("freq_over_1_percent", "dense", "latents that fired on over 1 % of tokens", ".1%", 0),
    Column("effective_latents", "effective", "exp of the entropy of the densities", ",.0f", 0),
    Column("ce_score", "CE score", "share recovered of the loss that zeros would cost", ".4f", 1),
    Column("ce_delta", "ΔCE", "rise of the model's loss, nats a token", ".3f", -1),
    Column("kl", "KL", "of the model's predictions from untouched, nats a token", ".3f", -1),
)

SPREAD = ("explained_variance", "l0", "dead_fraction", "ce_score", "kl")
"""The metrics whose spread over seeds is shown."""


def section(records: Sequence[Record]) -> str:
    """The table, what its columns mean, and the spread over seeds if seeds were swept."""
    columns = [c for c in COLUMNS if any(_value(r, c) is not None for r in records)]
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
    """The best value, None for a column that has none or where all are equal."""
    values = {v for r in records if (v := _value(r, column)) is not None}
    if not column.better or len(values) < 2:
        return None
    return max(values) if column.better > 0 else min(values)


def _row(record: Record, names, columns, best) -> str:
    cells = [f'<th scope="row">{html.escape(record.name)}</th>']
    for name in names:
        value = record.hparams.get(name)
        text = f"{value:,}" if isinstance(value, int) else "–" if value is None else f"{value}"
        data = html.escape(str(value))
        cells.append(f'<td class="number" data-value="{data}">{html.escape(text)}</td>')
    for column in columns:
        value = _value(record, column)
        kind = "number best" if value is not None and value == best[column.metric] else "number"
        data = "" if value is None else f' data-value="{value!r}"'
        cells.append(f'<td class="{kind}"{data}>{shown(value, column.form)}</td>')
    return "".join(cells)


def _measured(records: Sequence[Record]) -> str:
    """On how many tokens the metrics rest."""
    metrics = records[0].metrics
    text = (
        f"Reconstruction is measured on {metrics['n_tokens']:,.0f} held-out tokens. A latent is"
        f" called dead that never fired on {metrics['firing_tokens']:,.0f} such tokens; it may yet"
        " fire on more text."
    )
    if "ce_tokens" in metrics:
        text += f" The model's loss is measured on {metrics['ce_tokens']:,.0f} predictions."
    return text


def _seeds(records: Sequence[Record], columns: Sequence[Column]) -> str:
    """Mean and half range over seeds, one row a setting."""
    found = settings(records)
    most = max(len(members) for members in found.values())
    if most < 2:
        return ""
    chosen = [c for c in columns if c.metric in SPREAD]
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
