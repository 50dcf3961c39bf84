"""The page of a benchmark: a table of dictionaries and baselines, scores against L0, ranks, and what ran on
which data."""

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dictlearn.report import page
from dictlearn.report.drawn import numbers
from dictlearn.report.figures import colours, multiples, padded, ticks
from dictlearn.report.markup import head, shown, table
from dictlearn.report.svg import Panel, line
from dictlearn.runs.checkpoint import versions

_FORM, _L0, _RANK = ".3f", ".1f", ".1f"
_GREY = "#8a929c"
_MEAN = "mean"
_COLUMNS = 3


class Shown(NamedTuple):
    """What a page shows. told: a sentence about the evaluations. command: how to make it again. metrics: (the
    evaluation, key, heading, 1 if larger is better, else -1). rows: of `suites.Summary`, with their fields.
    ranks, data: as there."""

    title: str
    told: str
    command: str
    metrics: Sequence[tuple[str, str, str, int]]
    rows: Sequence[Any]
    ranks: Mapping[str, Mapping[str, tuple[float, float | None, float | None]]]
    data: Mapping[str, Mapping[str, Any]]


def render(shown_: Shown) -> str:
    """The page as text.

    Args:
        shown_: what it shows.

    Returns:
        HTML, in one file without external resources.
    """
    left_out = [name for name, one in shown_.data.items() if one["not_run"]]
    said = f" Not run: {', '.join(left_out)}." if left_out else ""
    made = ", ".join(f"{html.escape(name)} {number}" for name, number in versions().items())
    return page.document(
        shown_.title,
        f'<p class="lead">{html.escape(shown_.told)}{html.escape(said)}</p>',
        [
            ("data", "What ran on which data", _data(shown_)),
            ("scores", "Scores", _scores(shown_)),
            ("l0", "Scores against L0", _figure(shown_)),
            ("ranks", "Ranks", _ranks(shown_)),
        ],
        f"<h3>To reproduce</h3><pre>{html.escape(shown_.command)}</pre>"
        f'<p class="note">Page written with {made}.</p>',
    )


def _data(of: Shown) -> str:
    heads = [head(title, number=False) for title in ("evaluation", "data", "documents", "cells")]
    rows = []
    for name, one in of.data.items():
        counts = {task: sum(each.values()) for task, each in one["documents"].items()}
        told = ", ".join(f"{task}: {count:,}" for task, count in counts.items()) or "–"
        cells = f"not run: {one['not_run']}" if one["not_run"] else one["cells"]
        texts = (one["data"], told, cells)
        body = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
        rows.append(f'<th scope="row">{html.escape(name)}</th>{body}')
    return table("What ran on which data", heads, rows, "snug")


def _scores(of: Shown) -> str:
    best = {key: _best(of.rows, key, better) for _, key, _, better in of.metrics}
    heads = [head("dictionary", number=False), head("L0"), head("seeds"), head("draws")]
    heads += [head(html.escape(title), name) for name, _, title, _ in of.metrics]
    rows = []
    for row in of.rows:
        l0 = next((value for value in row.l0.values() if value is not None), None)
        cells = [f'<th scope="row">{html.escape(row.name)}</th>', _cell(l0, shown(l0, _L0))]
        seeds = f"{row.seeds}" if row.kind == "sae" else "–"
        cells += [_cell(row.seeds, seeds), _cell(row.draws, f"{row.draws}")]
        for _, key, _, _ in of.metrics:
            mean, half = row.mean[key], row.half[key]
            around = "" if half is None else f' <span class="note">± {shown(half, _FORM)}</span>'
            marked = row.kind == "sae" and mean is not None and mean == best[key]
            cells.append(_cell(mean, shown(mean, _FORM) + around, marked))
        rows.append("".join(cells))
    return (
        "<p>Means over dictionary seeds and draws, with the half width of the 95 % interval: the wider of the "
        "one over seeds and the one over draws, and none where neither varies. L0 is that of the first "
        "evaluation. The best dictionary of a "
        'column is <b class="best">marked</b>.'
        '<span class="scripted"> Click on a heading to sort.</span></p>'
        + table("Scores", heads, rows, "sortable")
    )


def _cell(value: float | None, text: str, best: bool = False) -> str:
    data = "" if value is None else f' data-value="{value!r}"'
    return f'<td class="number{" best" if best else ""}"{data}>{text}</td>'


def _best(rows: Sequence[Any], key: str, better: int) -> float | None:
    values = [row.mean[key] for row in rows if row.kind == "sae" and row.mean[key] is not None]
    if len(values) < 2:
        return None
    return max(values) if better > 0 else min(values)


def _figure(of: Shown) -> str:
    lines = list(dict.fromkeys(row.line for row in of.rows if row.kind == "sae"))
    hues = dict(zip(lines, colours(len(lines)), strict=True))
    panels = [
        (f"{title} ({'higher' if better > 0 else 'lower'} is better)", panel)
        for name, key, title, better in of.metrics
        if (panel := _panel(of.rows, name, key, hues)) is not None
    ]
    named = [*((html.escape(name), hue) for name, hue in hues.items()), ("random", _GREY)]
    legend = "".join(f'<li><i style="background:{hue}"></i>{name}</li>' for name, hue in named)
    rows = (
        (row.name, key, row.l0[name], row.mean[key])
        for name, key, _, _ in of.metrics
        for row in of.rows
    )
    return (
        f'<ul class="legend">{legend}</ul>'
        + multiples("Score, against L0", panels, _COLUMNS)
        + numbers(("dictionary", "metric", "L0", "score"), rows)
    )


def _panel(rows: Sequence[Any], name: str, key: str, hues: Mapping[str, str]) -> Panel | None:
    """The points of a metric, and the lines that join some; None without a point."""
    of = lambda chosen: list(_points(rows, name, key, chosen))
    lines = {
        hue: of(lambda row, own=joined: row.line == own and row.kind == "sae")
        for joined, hue in hues.items()
    }
    random = of(lambda row: row.kind == "random")
    points = [point for each in (*lines.values(), random) for point in each]
    if not points:
        return None
    limits = [padded(list(axis)) for axis in zip(*points, strict=True)]
    panel = Panel(limits[0], limits[1])
    panel.grid(
        [(x, f"{x:g}") for x in ticks(limits[0], 4)], [(y, f"{y:g}") for y in ticks(limits[1], 4)]
    )
    panel.add(line(panel, random, _GREY) if random else "")
    panel.add(*(line(panel, sorted(each), hue) for hue, each in lines.items() if each))
    return panel


def _points(
    rows: Sequence[Any], name: str, key: str, chosen: Callable[[Any], bool]
) -> Iterator[tuple[float, float]]:
    for row in sorted(filter(chosen, rows), key=lambda row: row.l0[name] or 0):
        if row.l0[name] is not None and row.mean[key] is not None:
            yield row.l0[name], row.mean[key]


def _ranks(of: Shown) -> str:
    titles = {key: title for _, key, title, _ in of.metrics} | {_MEAN: "mean rank"}
    columns = [key for key in (_MEAN, *titles) if key in of.ranks]
    columns = list(dict.fromkeys(columns))
    if not columns:
        return ""
    heads = [head("dictionary", number=False)] + [head(html.escape(titles[key])) for key in columns]
    names = sorted(of.ranks[_MEAN], key=lambda name: of.ranks[_MEAN][name][0])
    rows = []
    for name in names:
        cells = []
        for key in columns:
            rank, low, high = of.ranks[key][name]
            ends = "" if low is None else f" ({shown(low, _RANK)} to {shown(high, _RANK)})"
            cells.append(_cell(rank, f'{shown(rank, _RANK)}<span class="note">{ends}</span>'))
        rows.append(f'<th scope="row">{html.escape(name)}</th>{"".join(cells)}')
    return (
        "<p>1 is the best. In brackets is the 95 % interval when the seeds of each dictionary and the draws of "
        "all are drawn again; a dictionary with one seed and one draw has none.</p>"
        + table("Ranks", heads, rows, "sortable")
    )


def as_json(of: Shown) -> str:
    """The same numbers as JSON."""
    rows = [dict(row._asdict()) for row in of.rows]
    return json.dumps({**of._asdict(), "rows": rows}, indent=2) + "\n"
