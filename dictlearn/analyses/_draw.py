"""The common style of the figures of all analyses."""

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_MARKERS = "osD^vP*X"


def panels(n: int, width: float = 4.4, legend: float = 2.2) -> tuple[Figure, list[Axes]]:
    """A figure of `n` panels in a row, with room for a legend on the right."""
    figure = Figure(figsize=(width * n + legend, 4.4), dpi=160, layout="constrained")
    return figure, list(figure.subplots(1, n, squeeze=False)[0])


def curve(axes: Axes, points: list[tuple[float, float]], i: int, n: int, label: str) -> None:
    """Curve `i` of `n`, with its own colour and marker."""
    x, y = zip(*points, strict=True)
    axes.plot(
        x,
        y,
        color=matplotlib.colormaps["turbo"]((i + 0.5) / n),
        marker=_MARKERS[i % len(_MARKERS)],
        markersize=4,
        linewidth=1.1,
        label=label,
    )


def finish(axes: Axes, title: str, x: str, log2: bool = True) -> None:
    """Adds the title, the label of the x axis and a grid; a logarithmic x axis has plain numbers."""
    if log2:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel(x)
    axes.set_title(title, fontsize=10)
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
