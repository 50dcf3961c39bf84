"""Figures as files of a workdir: the drawing as SVG, and the numbers behind it as CSV."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dictlearn.runs.workdir import replace

if TYPE_CHECKING:  # Matplotlib takes half a second to import.
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("panel", "series", "x", "y")


def write(figure: "Figure", path: Path) -> list[Path]:
    """Writes a figure, and the points of its lines, dots, bars and images.

    Args:
        figure: the figure.
        path: the SVG; its numbers go to the same name with `.csv`.

    Returns:
        The two paths.

    Example:
        >>> import tempfile
        >>> from matplotlib.figure import Figure
        >>> figure = Figure()
        >>> _ = figure.subplots().plot([1, 2], [3, 4], label="loss")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = write(figure, Path(folder) / "loss.svg")
        ...     print(paths[1].read_text())
        panel,series,x,y
        1,loss,1,3
        1,loss,2,4
        <BLANKLINE>
    """
    import matplotlib

    drawing = io.StringIO()
    # Text stays text, and ids are the same whenever the drawing is.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(drawing, format="svg", transparent=True, metadata={"Date": None})
    numbers = path.with_suffix(".csv")
    replace(path, drawing.getvalue())
    replace(numbers, _csv(figure))
    return [path, numbers]


def _csv(figure: "Figure") -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for i, axes in enumerate(figure.axes, 1):
        panel = axes.get_title() or axes.get_title(loc="left") or str(i)
        for series, points in _series(axes):
            table.writerows((panel, series, f"{x:.10g}", f"{y:.10g}") for x, y in points)
    return text.getvalue()


def _series(axes: "Axes") -> Iterator[tuple[str, np.ndarray]]:
    """(name, points [P, 2]) of what was drawn at data points; guides across a whole panel are not. A series
    without a label is counted; a row of an image has its index as x, and its values as y."""
    from matplotlib.container import BarContainer

    named = lambda artist, kind, n: (
        f"{kind} {n}" if (label := str(artist.get_label())).startswith("_") else label
    )
    data = axes.transData
    lines = [line for line in axes.lines if line.get_transform() == data]
    for n, line in enumerate(lines, 1):
        yield named(line, "line", n), np.asarray(line.get_xydata(), float)
    dots = [one for one in axes.collections if one.get_offset_transform() == data]
    for n, one in enumerate(dots, 1):
        yield named(one, "dots", n), np.ma.filled(np.ma.asarray(one.get_offsets(), float), np.nan)
    for n, bars in enumerate((c for c in axes.containers if isinstance(c, BarContainer)), 1):
        boxes = [box.get_bbox() for box in bars.patches]
        yield named(bars, "bars", n), np.array([((b.x0 + b.x1) / 2, b.y1) for b in boxes])
    for n, image in enumerate(axes.images, 1):
        for i, row in enumerate(np.asarray(image.get_array(), float)):
            yield f"{named(image, 'image', n)}, row {i}", np.stack([np.arange(len(row)), row], 1)
