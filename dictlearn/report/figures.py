"""Training curves and density histograms: small multiples, one SVG per panel, so that a narrow screen stacks
them.

Colours are as in the scaling figure, light for the smallest.
"""

import html
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

from dictlearn.report.drawn import numbers
from dictlearn.report.markup import shown
from dictlearn.report.records import Record, Run, label, settings
from dictlearn.report.svg import Panel, bar, line, text

_CURVES = (
    ("explained_variance", "Explained variance of training batches, against tokens", ".3g"),
    ("dead_fraction", "Share of dead latents, against tokens", ".1%"),
)
FLOOR = -0.5
"""The lowest value of a curve: a start or a jump far below it would flatten the rest."""
_DENSITY = "Share of latents, against the share of tokens they fire on"
_ALIVE, _DEAD = "#3f6f9f", "#b4532a"
_NARROWEST = -9.0
"""Bins below this log10 density hold the latents that never fired (see `meters.firing`)."""


def training(run: Run) -> str:
    """Curves against tokens: a panel for each member, or each value of the first varying hyperparameter, a
    colour for each setting of the others, a line for each seed.
    """
    if not run.logged:
        return "<p>The run's metrics.jsonl holds no line, so there is no curve to show.</p>"
    by_panel = _panels(run.records)
    kinds = list(dict.fromkeys(rest for panel in by_panel.values() for rest in panel))
    hues = dict(zip(kinds, colours(len(kinds)), strict=True))
    legend = "".join(
        f'<li><i style="background:{hues[kind]}"></i>{html.escape(label(kind))}</li>'
        for kind in kinds
    )
    return (
        "<p>A line is a dictionary; seeds share a colour. A latent counts as dead here once it has"
        " been silent for the learner's <code>dead_after</code> tokens.</p>"
        + (f'<ul class="legend">{legend}</ul>' if len(kinds) > 1 else "")
        + "".join(_curves(run, by_panel, hues, *curve) for curve in _CURVES)
    )


def _panels(records: Sequence[Record]) -> dict[tuple, dict[tuple, list[Record]]]:
    """{first value of the setting: {other values: dictionaries}}."""
    found: dict[tuple, dict[tuple, list[Record]]] = {}
    for setting, members in settings(records).items():
        found.setdefault(setting[:1], {})[setting[1:]] = members
    return found


def _curves(run: Run, by_panel, hues: Mapping, metric: str, title: str, form: str) -> str:
    lines = {record.name: _logged(run, record.name, metric) for record in run.records}
    rows = [(name, *point) for name, points in lines.items() for point in points]
    lines, below = _raised(lines)
    points = [point for each in lines.values() for point in each]
    if not points:
        return ""
    x_limits, y_limits = (0.0, max(x for x, _ in points)), padded([y for _, y in points])
    panels = []
    for first, members in by_panel.items():
        panel = Panel(x_limits, y_limits)
        heights = [(y, shown(y, form)) for y in ticks(y_limits, 4)]
        panel.grid([(x, _short(x)) for x in ticks(x_limits, 3)], heights)
        for kind, records in members.items():
            panel.add(*(line(panel, lines[r.name], hues[kind]) for r in records))
        panels.append((label(first), panel))
    drawn = multiples(title, panels, len(by_panel))
    return drawn + below + numbers(("dictionary", "tokens", metric), rows)


def _raised(lines: Mapping[str, list[tuple[float, float]]]) -> tuple[dict[str, list], str]:
    """(the lines, with values below FLOOR at FLOOR, and a sentence that says so if there are any)."""
    raised = {name: [(x, max(y, FLOOR)) for x, y in points] for name, points in lines.items()}
    said = f"<p>Values below {FLOOR:g} are drawn there; the data have them.</p>"
    return raised, said if raised != lines else ""


def _logged(run: Run, name: str, metric: str) -> list[tuple[float, float]]:
    rows = [(row["tokens"], row[name].get(metric)) for row in run.logged if name in row]
    return [(tokens, value) for tokens, value in rows if value is not None]


def padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with a margin; the lower end of a range of shares is at least 0."""
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05
    return max(low - margin, 0.0) if low >= 0 else low - margin, high + margin


def densities(records: Sequence[Record]) -> str:
    """Histograms of the latents' log10 density, one for each setting, averaged over its seeds."""
    found = settings(records)
    shares = {setting: _shares(members) for setting, members in found.items()}
    alive = [x for bins, _ in shares.values() for x, share in bins if share > 0]
    low = int(min(alive, default=-1.0) // 1)
    tallest = max(max(dead, *(share for _, share in bins)) for bins, dead in shares.values())
    firsts, rests = (list(dict.fromkeys(s[part] for s in found)) for part in _PARTS)
    ranked = sorted(found, key=lambda s: (rests.index(s[1:]), firsts.index(s[:1])))
    panels = [(label(s), _histogram(*shares[s], low, 1.12 * tallest)) for s in ranked]
    tokens = f"{records[0].metrics['firing_tokens']:,.0f}"
    bars = ((label(s), *bin_) for s in ranked for bin_ in [("dead", shares[s][1]), *shares[s][0]])
    columns = ("dictionaries", "log10 density from", "share of latents")
    return (
        f"<p>The share of latents by the share of {tokens} held-out tokens they fire on, seeds"
        " averaged. Latents that fired on none are drawn apart as dead; nothing rarer than one token"
        f" in {tokens} can be seen.</p>{multiples(_DENSITY, panels, len(firsts))}"
        f"{numbers(columns, bars)}"
    )


_PARTS = (slice(None, 1), slice(1, None))
"""A setting's first hyperparameter, along a row of panels, and the rest, a row each."""


def _shares(members: Sequence[Record]) -> tuple[list[tuple[float, float]], float]:
    """([(left edge in log10 density, share of latents) of each bin], share of dead latents)."""
    histograms = [record.metrics["density_histogram"] for record in members]
    counts = [sum(bin_) for bin_ in zip(*(h["latents"] for h in histograms), strict=True)]
    edges = histograms[0]["log10_edges"][:-1]
    shares = [(edge, n / sum(counts)) for edge, n in zip(edges, counts, strict=True)]
    alive = [(edge, share) for edge, share in shares if edge >= _NARROWEST]
    return alive, sum(share for edge, share in shares if edge < _NARROWEST)


def _histogram(bins: list[tuple[float, float]], dead: float, low: int, high: float) -> Panel:
    """A panel; the bar of the dead latents is left of the lowest density, 10^low."""
    panel, middle = Panel((low - 1.35, 0), (0, high)), low - 1.0
    decades = [(float(x), f"{100 * 10.0**x:g}%") for x in range(0, low - 1, -2)]
    panel.grid(decades, [(y, shown(y, ".0%")) for y in ticks((0, high), 4)])
    width = bins[1][0] - bins[0][0]
    panel.add(*(bar(panel, x, x + width, share, _ALIVE) for x, share in bins if share > 0))
    panel.add(bar(panel, middle - 0.18, middle + 0.18, dead, _DEAD))
    panel.add(text(panel, middle, dead, shown(dead, ".1%"), _DEAD))
    panel.below(middle, "dead", _DEAD)
    return panel


def multiples(title: str, panels: Sequence[tuple[str, Panel]], columns: int) -> str:
    """Panels with their names under a heading, so many in a row."""
    drawn = "".join(
        f"<figure><figcaption>{html.escape(name)}</figcaption>"
        f"{panel.svg(f'{title}: {name}')}</figure>"
        for name, panel in panels
    )
    across = min(max(columns, 2), 4)
    return f'<h3>{title}</h3><div class="panels" style="--columns:{across}">{drawn}</div>'


def colours(count: int) -> list[str]:
    """So many colours, light for the first."""
    steps = [0.8 - 0.75 * i / (count - 1) for i in range(count)] if count > 1 else [0.3]
    return [to_hex(matplotlib.colormaps["viridis"](step)) for step in steps]


def ticks(limits: tuple[float, float], count: int) -> list[float]:
    """About so many round values within limits."""
    low, high = limits
    ticks = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in ticks if low <= tick <= high]


def _short(value: float) -> str:
    """12,000 as 12k, 3,000,000 as 3M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"
