"""Minimal description length: of dictionaries that reconstruct equally well, the one whose codes are shortest.

The bits of each width are read at one explained variance. They are interpolated between the two measured
sparsities around it, never extrapolated. Few latents need many active ones to reconstruct; too many split
features into copies, and each split costs bits. So the best width lies inside the range, unless the range is
too short: `interior` says whether it does.

Source: Ayonrinde, Pearce and Sharkey 2024 (arXiv:2410.11179); the bits are the meter `description_length`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dictlearn.analyses import _draw
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._settings import by_setting
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.analyses.frontier import between

BITS, EV = "description_length", "explained_variance"
PARTS = (f"{BITS}_support", f"{BITS}_values", "l0")


def mdl(subjects: Sequence[Subject], *, explained_variance: float | None = None) -> Result:
    """The bits of each kind and width at one explained variance, averaged over seeds.

    Args:
        subjects: one run, evaluated with the meters `description_length` and `reconstruction`.
        explained_variance: where the bits are read; None for the largest measured value that most widths reach.

    Returns:
        A Result with `rows`, one for each kind and width, and `best`, one for each kind.

    Raises:
        ValueError: for a run that was evaluated without one of the meters.
    """
    (subject,) = exactly(1, subjects, "mdl")
    curves = _curves(subject)
    target = explained_variance if explained_variance is not None else _shared(curves)
    rows = [
        {"member": label, "n_latents": n, **_at(points, target), "points": points}
        for (label, n), points in sorted(curves.items())
    ]
    labels = dict.fromkeys(row["member"] for row in rows)
    best = [_best(label, [row for row in rows if row["member"] == label]) for label in labels]
    keys = ("member", "n_latents", BITS, *PARTS)
    words = [key.replace(f"{BITS}_", "").replace("_", " ") for key in keys]
    title = f"Bits of a token at an explained variance of {target:.3f}"
    table = Table(title, words, [[row[key] for key in keys] for row in rows])
    chosen = Table("Fewest bits", [*best[0]], [[*one.values()] for one in best])
    found = {"explained_variance": target, "rows": rows, "best": best}
    return Result(found, [table, chosen], [_figure(rows, target)])


def _curves(subject: Subject) -> dict[tuple[str, int], list[dict]]:
    """{(member, width): points by explained variance}, a point for each setting, the mean over its seeds."""
    curves: dict[tuple[str, int], list[dict]] = {}
    for setting, names in by_setting(subject).items():
        records = [subject.metrics[name] for name in names]
        if any(record.get(key) is None for record in records for key in (BITS, EV)):
            raise ValueError(
                f"{subject.name} was evaluated without {BITS} or reconstruction; add both to config.meters."
            )
        point = {
            key: float(np.mean([record[key] for record in records])) for key in (EV, BITS, *PARTS)
        }
        width = records[0]["hparams"]["dictionary"]["n_latents"]
        curves.setdefault((setting.label, width), []).append(point)
    return {key: sorted(points, key=lambda point: point[EV]) for key, points in curves.items()}


def _shared(curves: Mapping[Any, Sequence[Mapping]]) -> float:
    """The measured explained variance that most curves reach; the largest of several."""
    spans = [(points[0][EV], points[-1][EV]) for points in curves.values()]
    reached = lambda at: sum(low <= at <= high for low, high in spans)
    return max(
        (p[EV] for points in curves.values() for p in points), key=lambda at: (reached(at), at)
    )


def _at(points: Sequence[Mapping], target: float) -> dict[str, float | None]:
    """The bits, their parts and the L0 at an explained variance; None outside the measured range."""
    curve = lambda key: [(point[EV], point[key]) for point in points]
    alone = {key: points[0][key] if points[0][EV] == target else None for key in (BITS, *PARTS)}
    return alone if len(points) == 1 else {key: between(curve(key), target) for key in alone}


def _best(label: str, rows: Sequence[Mapping]) -> dict[str, Any]:
    """The width of the fewest bits, and whether both a narrower and a wider one take more."""
    known = [row for row in rows if row[BITS] is not None]
    best = min(known, key=lambda row: row[BITS], default=None)
    widths = [row["n_latents"] for row in known]
    inside = best is not None and min(widths) < best["n_latents"] < max(widths)
    return {
        "member": label,
        "n_latents": best and best["n_latents"],
        "bits": best and best[BITS],
        "interior": inside,
    }


def _figure(rows: Sequence[Mapping], target: float) -> Figure:
    """The bits against the width at that explained variance, and all curves."""
    figure, (widths, curves) = _draw.panels(2)
    labels = list(dict.fromkeys(row["member"] for row in rows))
    for i, label in enumerate(labels):
        known = [row for row in rows if row["member"] == label and row[BITS] is not None]
        points = [(row["n_latents"], row[BITS]) for row in known]
        if points:
            _draw.curve(widths, points, i, len(labels), label)
    for i, row in enumerate(rows):
        points = [(point[EV], point[BITS]) for point in row["points"]]
        name = f"{row['member']} n {row['n_latents']}"
        _draw.curve(curves, points, i, len(rows), name)
    curves.axvline(target, color="#999999", linewidth=0.8, linestyle=":")
    _draw.finish(widths, f"bits at an explained variance of {target:.3f}", "latents")
    _draw.finish(curves, "bits", "explained variance", log2=False)
    figure.legend(*curves.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure
