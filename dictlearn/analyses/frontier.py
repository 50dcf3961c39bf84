"""The L0 frontier: the curves of several kinds of dictionaries, and all of them at one L0.

Explained variance and CE score trade off against L0, so kinds are compared at an L0 within their curves. Values
are interpolated between the two measured points around it, linearly in log L0. Nothing is extrapolated. With a
reference, each dictionary also gets the L0 at which the reference reaches its value of the first metric. A
tuned hyperparameter, such as the learning rate, makes a curve for each of its values; a kind has its best one.
Seeds are curves of their own, whose values at the L0 give the mean and its interval; figures show their mean.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from dictlearn import meters
from dictlearn.analyses import _draw
from dictlearn.analyses._asked import interval
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject
from dictlearn.runs.workdir import flat

NEEDS = ("dictionaries",)

METRICS = tuple(c.metric for c in meters.headlines() if c.metric != "l0")
"""The headlines of all meters, except the axis."""


def frontier(
    subjects: Sequence[Subject],
    *,
    l0: float | None = None,
    metrics: Sequence[str] = METRICS,
    reference: str = "",
    tuned: str = "",
) -> Result:
    """All kinds of the subjects' runs at one L0, sorted by the first metric; kinds that do not reach it are
    last.

    Args:
        subjects: runs; with several, kinds are named "RUN MEMBER".
        l0: the L0 of the comparison; None for the geometric mean of the range that most curves have.
        metrics: names in `metrics.json`; a metric that a run has not measured is left out.
        reference: the kind that defines the L0 that each dictionary would need; empty for none.
        tuned: a hyperparameter, such as "lr" or "rule.lr", of which each kind has the value with the best first
            metric at the L0; empty for none. It is chosen on the tokens that it is then measured on.

    Returns:
        A Result with `l0` and `rows`, with the means `at_l0` and, for several seeds, `half_width`: half of the
        95 % interval of the mean, by Student's t.

    Raises:
        ValueError: for fewer than two dictionaries, metrics that none has, an unknown reference, and a
            hyperparameter that no dictionary has.
    """
    rows = _rows(subjects, metrics, tuned)
    target = l0 if l0 is not None else _middle([row["points"] for row in rows])
    rows = [row | _at_seeds(row, metrics, target) for row in rows]
    first = next((key for key in metrics if any(_has(row, key) for row in rows)), None)
    if first is None:
        raise ValueError(f"metrics={tuple(metrics)}: no dictionary was measured by any of them.")
    rank = lambda row: -math.inf if (value := row["at_l0"].get(first)) is None else value
    rows.sort(key=rank, reverse=True)
    at = f"at L0 {target:.3g}"
    tables = [_table(at, rows, metrics, tuned)]
    if tuned:
        rows = _first_of_kind(rows)
        tables.insert(0, _table(f"the best {tuned} {at}", rows, metrics, tuned))
    if reference:
        tables.append(_needed(rows, first, reference))
    values = {"l0": target, "rows": rows}
    return Result(values, tables, [_figure(rows, target, metrics)])


def _rows(subjects: Sequence[Subject], metrics: Sequence[str], tuned: str) -> list[dict]:
    """{"member", "n_latents", "tuned", "seeds", "points"} of each curve: the points of every seed, sorted by
    L0, and their means, as many as every seed has."""
    curves: dict[tuple, dict[Any, list[dict]]] = {}
    for subject in subjects:
        for name, record in {**subject.metrics, **subject.pursuits}.items():
            label, hparams = record["label"], record["hparams"]
            label = f"{subject.name} {label}" if len(subjects) > 1 else label
            measured = {key: record[key] for key in metrics if record.get(key) is not None}
            value = _value(hparams, tuned) if tuned else None
            seeds = curves.setdefault((label, hparams["dictionary"]["n_latents"], value), {})
            point = {"name": name, "l0": record["l0"], **measured}
            seeds.setdefault(hparams.get("seed"), []).append(point)
    found = sum(len(points) for seeds in curves.values() for points in seeds.values())
    if found < 2:
        raise ValueError(f"{found} dictionaries; a comparison needs two or more.")
    rows = []
    for (label, n, value), by_seed in curves.items():
        seeds = [sorted(points, key=lambda point: point["l0"]) for points in by_seed.values()]
        of = {"member": label, "n_latents": n, "tuned": value}
        rows.append(
            {**of, "seeds": seeds, "points": [_mean(own) for own in zip(*seeds, strict=False)]}
        )
    return rows


def _mean(points: Sequence[Mapping]) -> dict:
    """The point of several seeds, with the name of the first."""
    shared = [key for key in points[0] if key != "name" and all(key in one for one in points)]
    means = {key: math.fsum(one[key] for one in points) / len(points) for key in shared}
    return {"name": points[0]["name"], **means}


def _at_seeds(row: Mapping, metrics: Sequence[str], l0: float) -> dict[str, dict]:
    """{"at_l0", "half_width"}: means over seeds of metrics at an L0, and half of their intervals."""
    means, halves = {}, {}
    for key in (key for key in metrics if _has(row, key)):
        found = [_at(points, key, l0) for points in row["seeds"]]
        means[key], halves[key] = interval([value for value in found if value is not None])
    return {"at_l0": means, "half_width": halves}


def _value(hparams: Mapping, name: str) -> float:
    """The hyperparameter of a name, with or without its subtree."""
    leaves = dict(flat(hparams))
    found = [leaf for leaf in leaves if leaf == name or leaf.endswith(f".{name}")]
    if len(found) != 1:
        raise ValueError(
            f"tuned={name!r} names {len(found)} of {', '.join(leaves)}; it must name one."
        )
    return leaves[found[0]]


def _first_of_kind(rows: Sequence[dict]) -> list[dict]:
    """The first row of each kind and width."""
    first: dict[tuple, dict] = {}
    for row in rows:
        first.setdefault((row["member"], row["n_latents"]), row)
    return list(first.values())


def _has(row: Mapping, key: str) -> bool:
    return all(key in point for point in row["points"])


def _middle(curves: Sequence[Sequence[Mapping]]) -> float:
    """The L0 that most curves contain: the middle, in its logarithm, of the range in which they do."""
    spans = [(points[0]["l0"], points[-1]["l0"]) for points in curves]
    ends = sorted({end for span in spans for end in span if end > 0})
    covered = lambda a, b: sum(low <= a and b <= high for low, high in spans)
    stretches = list(itertools.pairwise(ends))
    if not stretches:
        return ends[0] if ends else 1.0
    most = max(covered(*stretch) for stretch in stretches)
    inside = [stretch for stretch in stretches if covered(*stretch) == most]
    low, high = max(inside, key=lambda stretch: math.log(stretch[1] / stretch[0]))
    return math.sqrt(low * high)


def between(curve: Sequence[tuple[float, float]], x: float) -> float | None:
    """Interpolates a curve linearly, on the first segment with rising x that contains x.

    Args:
        curve: points (x, y).
        x: where to interpolate.

    Returns:
        y; None outside the curve.
    """
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 <= x <= x1:
            share = (x - x0) / (x1 - x0) if x1 > x0 else 0.0
            return (1 - share) * y0 + share * y1
    return None


def _at(points: Sequence[Mapping], key: str, l0: float) -> float | None:
    """The metric at an L0. A point within 2 % counts as that L0, at the ends of the curve."""
    curve = [(math.log(point["l0"]), point[key]) for point in points if point["l0"] > 0]
    found = between(curve, math.log(l0))
    alone = [point[key] for point in points if math.isclose(point["l0"], l0, rel_tol=0.02)]
    return alone[0] if found is None and alone else found


def _needed(rows: Sequence[Mapping], key: str, reference: str) -> Table:
    """The L0 at which the reference has each dictionary's value of a metric."""
    of = {row["member"]: row for row in rows if _has(row, key)}
    if reference not in of:
        raise ValueError(f"{reference=} has no curve of {key}; there are {', '.join(of)}.")
    points = of[reference]["points"]
    curve = [(point[key], math.log(point["l0"])) for point in points if point["l0"] > 0]
    found = []
    for row in of.values():
        for point in row["points"]:
            needed = between(curve, point[key])
            point["reference_l0"] = None if needed is None else math.exp(needed)
            found.append((point["name"], point["l0"], point[key], point["reference_l0"]))
    columns = ("dictionary", "L0", key.replace("_", " "), f"L0 of {reference} for it")
    return Table(f"The L0 that {reference} needs for the same {columns[2]}", columns, found)


def _table(title: str, rows: Sequence[Mapping], metrics: Sequence[str], tuned: str) -> Table:
    present = [key for key in metrics if any(key in row["at_l0"] for row in rows)]
    named = [key.replace("_", " ") for key in present]
    columns = ("member", "n", *([tuned] if tuned else []), *named, "L0 measured")
    cells = []
    for row in rows:
        span = f"{row['points'][0]['l0']:.1f} .. {row['points'][-1]['l0']:.1f}"
        values = (_told(row, key) for key in present)
        chosen = [row["tuned"]] if tuned else []
        cells.append((row["member"], row["n_latents"], *chosen, *values, span))
    return Table(title, columns, cells)


def _told(row: Mapping, key: str) -> float | str | None:
    """A metric at the L0, with its interval where there are seeds."""
    mean, half = row["at_l0"].get(key), row["half_width"].get(key)
    return mean if half is None else f"{mean:.4g} ± {half:.2g}"


def _figure(rows: Sequence[Mapping], l0: float, metrics: Sequence[str]) -> Figure:
    present = [key for key in metrics if any(_has(row, key) for row in rows)]
    figure, panels = _draw.panels(len(present))
    wide = len({row["n_latents"] for row in rows}) > 1
    for key, axes in zip(present, panels, strict=True):
        for i, row in enumerate(rows):
            if _has(row, key):
                points = [(point["l0"], point[key]) for point in row["points"]]
                label = row["member"] + (f" n {row['n_latents']}" if wide else "")
                _draw.curve(axes, points, i, len(rows), label)
        axes.axvline(l0, color="#999999", linewidth=0.8, linestyle=":")
        _draw.finish(axes, key.replace("_", " "), "L0, active latents per token")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure
