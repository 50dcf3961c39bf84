"""Dictionaries of several kinds side by side: `compare.json`, `compare.png` and a table, at matched L0.

Explained variance and CE score trade against L0, so kinds are compared along their whole curve, and at one L0:
between the two measured points around it, linearly in log L0. Nothing is said of an L0 outside a curve.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from dictlearn.runs.workdir import write_json

VALUES = ("explained_variance", "ce_score", "dead_fraction")
_TITLES = ("explained variance", "CE score", "dead fraction")
_MARKERS = "osD^vP*X"


def frontier(metrics: Mapping[str, Mapping], path: Path, l0: float | None = None) -> dict:
    """Writes both files into the workdir `path`; returns what `compare.json` holds.

    l0: where the table compares; by default the (geometric) middle of what most curves span. Rows are
    sorted by explained variance there, those whose curve does not reach it last. Raises ValueError for
    fewer than two dictionaries."""
    curves: dict[tuple[str, int], list[dict]] = {}
    for name, record in metrics.items():
        label, n = name.rsplit("_n", 1)[0], record["hparams"]["n_latents"]
        point = {"name": name, "l0": record["l0"], **{k: record[k] for k in VALUES if k in record}}
        curves.setdefault((label, n), []).append(point)
    if len(metrics) < 2:
        raise ValueError(f"{len(metrics)} dictionaries; a comparison needs two or more.")
    target = l0 if l0 is not None else _middle(curves.values())
    rows = []
    for (label, n), points in curves.items():
        points = sorted(points, key=lambda point: point["l0"])
        at = {key: _between(points, key, target) for key in VALUES if key in points[0]}
        rows.append({"member": label, "n_latents": n, "at_l0": at, "points": points})
    worst = -math.inf
    rows.sort(key=lambda row: row["at_l0"]["explained_variance"] or worst, reverse=True)
    found = {"l0": target, "rows": rows}
    write_json(path / "compare.json", found)
    _draw(rows, target, path / "compare.png")
    return found


def show(found: Mapping[str, Any], console: Console) -> None:
    """The table, on a console; a dash where a curve does not reach the L0."""
    present = [key for key in VALUES if any(key in row["at_l0"] for row in found["rows"])]
    table = Table(title=f"at L0 {found['l0']:.3g}", title_justify="left")
    for column in ("member", "n", *(key.replace("_", " ") for key in present), "L0 measured"):
        table.add_column(column, justify="left" if column == "member" else "right", no_wrap=True)
    for row in found["rows"]:
        values = [row["at_l0"].get(key) for key in present]
        cells = ["-" if value is None else f"{value:.4f}" for value in values]
        span = f"{row['points'][0]['l0']:.1f} .. {row['points'][-1]['l0']:.1f}"
        table.add_row(row["member"], str(row["n_latents"]), *cells, span)
    console.print(table)


def _middle(curves) -> float:
    """The L0 within the most curves, midway (in its logarithm) along the stretch where that is so."""
    spans = [(min(p["l0"] for p in c), max(p["l0"] for p in c)) for c in curves]
    ends = sorted({end for span in spans for end in span if end > 0})
    covered = lambda a, b: sum(low <= a and b <= high for low, high in spans)
    stretches = list(itertools.pairwise(ends))
    if not stretches:
        return ends[0] if ends else 1.0
    most = max(covered(*stretch) for stretch in stretches)
    inside = [stretch for stretch in stretches if covered(*stretch) == most]
    low, high = max(inside, key=lambda stretch: math.log(stretch[1] / stretch[0]))
    return math.sqrt(low * high)


def _between(points: Sequence[Mapping], key: str, l0: float) -> float | None:
    """The value at `l0`, between the measured points on both sides of it; None outside of them."""
    for low, high in itertools.pairwise(points):
        if 0 < low["l0"] <= l0 <= high["l0"]:
            width = math.log(high["l0"] / low["l0"])
            share = math.log(l0 / low["l0"]) / width if width else 0.0
            return (1 - share) * low[key] + share * high[key]
    alone = [point[key] for point in points if math.isclose(point["l0"], l0, rel_tol=0.02)]
    return alone[0] if alone else None


def _draw(rows: Sequence[Mapping], l0: float, path: Path) -> None:
    present = [key for key in VALUES if key in rows[0]["points"][0]]
    figure = Figure(figsize=(4.4 * len(present) + 2.2, 4.4), dpi=160, layout="constrained")
    panels = figure.subplots(1, len(present), squeeze=False)[0]
    colours = matplotlib.colormaps["turbo"]
    for key, axes in zip(present, panels, strict=True):
        for i, row in enumerate(rows):
            label = row["member"] + (f" n {row['n_latents']}" if _widths(rows) > 1 else "")
            axes.plot(
                [point["l0"] for point in row["points"]],
                [point[key] for point in row["points"]],
                color=colours((i + 0.5) / len(rows)),
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=4,
                linewidth=1.1,
                label=label,
            )
        axes.axvline(l0, color="#999999", linewidth=0.8, linestyle=":")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("L0, active latents per token")
        axes.set_title(_TITLES[VALUES.index(key)], fontsize=10)
        axes.grid(color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, format="png")


def _widths(rows: Sequence[Mapping]) -> int:
    return len({row["n_latents"] for row in rows})
