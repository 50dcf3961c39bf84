"""A figure of a law: the loss against each of its inputs, and against its prediction.

Lines are the fit, bands its 5-95 % bootstrap interval, and every dot is a run (each seed is one). The panels of
the inputs share a logarithmic axis of normalised mean squared error, with the explained variance (1 minus it)
on the right. The last shows the errors of held-out predictions: discs for cells inside the grid, rings for
cells at its edge, triangles for the largest first input predicted from the smaller ones. Colours run from light
for the smallest to dark for the largest, an order that colour-blind readers and grey printers keep.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from dictlearn.scaling.inputs import INPUTS, LOSS, Input

_INK, _RULE = "#2b2b2b", "#d9d9d9"
_SMALL, _NORMAL = 7.5, 9
_LABEL_GAP = 0.052  # of the axis's height, between the middles of two labels
_K_COLOURS = ("viridis", 0.8, 0.05)
_N_COLOURS = ("magma", 0.78, 0.12)


def draw(
    runs: Sequence[Mapping[str, Any]],
    fit: Mapping[str, Any],
    loss: str = LOSS,
) -> Figure:
    """Draws the figure.

    Args:
        runs: the runs, as in `summarise`.
        fit: what `summarise` returned for them, for a law of one or two inputs.
        loss: the metric that was fitted.

    Returns:
        The figure.
    """
    words = "normalised mean squared error" if loss == LOSS else loss
    inputs = [INPUTS[name.removeprefix("against_")] for name in fit["curves"]]
    size = (3.35 * len(inputs) + 4.3, 3.6)
    figure = Figure(figsize=size, dpi=200, layout=ConstrainedLayoutEngine(w_pad=0.1))
    widths = [*(1.1 for _ in inputs), 0.95]
    *panels, errors = figure.subplots(1, len(widths), width_ratios=widths)
    limits = _limits([run["loss"] for run in runs])
    others = inputs[::-1] if len(inputs) > 1 else [None]
    for n, (axes, lines) in enumerate(zip(panels, fit["curves"].values(), strict=True)):
        _losses(axes, runs, lines, (inputs[n], others[n]), (_K_COLOURS, _N_COLOURS)[n], limits)
        _style(axes, inputs[n].title, inputs[n].label, "" if n else words)
        axes.tick_params(labelleft=n == 0)
    if loss == LOSS:
        _explained_variance(panels[-1])
    _held_out(errors, fit, inputs[-1].key)
    _style(
        errors,
        "Cells left out of the fit",
        f"measured {words}",
        "predicted minus measured (%)",
    )
    if not fit["identified"].get("irreducible", True):
        note = "irreducible error\nnot identified"
        width = panels[0]
        width.text(0.04, 0.05, note, transform=width.transAxes, fontsize=_SMALL, color=_INK)
    return figure


_DOTS: dict[str, Any] = {"s": 15, "edgecolor": "white", "linewidth": 0.5, "zorder": 3}


def _losses(axes: Axes, runs, lines, names: tuple[Input, Input | None], colour_map, limits) -> None:
    """The measured and fitted losses against names[0], one line for each value of names[1]."""
    along, across = names[0].key, names[1].key if names[1] else None
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_ylim(limits)
    _loss_ticks(axes.yaxis, limits)
    colours = _colours(colour_map, len(lines))
    for line, colour in zip(lines, colours, strict=True):
        of_line = [run for run in runs if across is None or run[across] == line[across][0]]
        of = f", {across} = {line[across][0]:g}" if across else ""
        axes.fill_between(
            line[along], line["low"], line["high"], color=colour, alpha=0.18, linewidth=0
        )
        axes.plot(line[along], line["loss"], color=colour, linewidth=1.4, label=f"fitted{of}")
        measured = [run[along] for run in of_line], [run["loss"] for run in of_line]
        axes.scatter(*measured, color=colour, label=f"measured{of}", **_DOTS)
    left, right = lines[0][along][0], lines[0][along][-1]
    span = right / left
    axes.set_xlim(left * span**-0.05, right * span ** (0.27 if across else 0.05))
    if names[1]:
        _line_labels(axes, lines, colours, right * span**0.045, names[1], limits)
    _grid_ticks(axes, [run[along] for run in runs])


def _line_labels(axes: Axes, lines, colours, x: float, across: Input, limits) -> None:
    """The value of each line at its right end, at x; labels that would overlap are moved apart."""
    log_low, log_high = np.log(limits)
    heights = [(np.log(line["loss"][-1]) - log_low) / (log_high - log_low) for line in lines]
    for line, colour, height in zip(lines, colours, _apart(heights), strict=True):
        axes.annotate(
            f"${across.symbol}$ = {_number(line[across.key][0])}",
            (x, height),
            xycoords=("data", "axes fraction"),
            fontsize=_SMALL,
            color=colour,
            va="center",
        )


def _apart(heights: list[float]) -> np.ndarray:
    """The heights in the same order, at least one label gap apart, moved as little as possible."""
    order = np.argsort(heights)
    spread = np.array(heights)[order]
    for i in range(1, spread.size):
        spread[i] = max(spread[i], spread[i - 1] + _LABEL_GAP)
    spread -= np.mean(spread) - np.mean(heights)
    result = np.empty_like(spread)
    result[order] = spread
    return result


def _held_out(axes: Axes, fit: Mapping[str, Any], key: str) -> None:
    """The relative errors of held-out predictions in per cent, against the loss, coloured by an input."""
    rows = fit["held_out"]
    values = sorted({row[key] for row in rows})
    colour_of = dict(zip(values, _colours(_K_COLOURS, len(values)), strict=True))
    for row in rows:
        fill = colour_of[row[key]] if row["interior"] else "white"
        _mark(axes, row, "o", colour_of[row[key]], fill, "cell left out")
    largest = fit["largest_out"]
    for row in largest["cells"] if largest else []:
        _mark(axes, row, "^", colour_of[row[key]], "white", "largest left out")
    marks = [("o", _INK, "inside the grid"), ("o", "white", "at its edge")]
    if largest:
        first = next(INPUTS[name.removeprefix("against_")] for name in fit["curves"])
        marks.append(("^", "white", f"largest {first.title.lower()}, all left out"))
    limits = _limits([row["loss"] for row in rows])
    axes.set_xscale("log")
    axes.set_xlim(limits)
    _loss_ticks(axes.xaxis, limits)
    axes.axhline(0, color=_INK, linewidth=0.8, zorder=1)
    reach = 1.15 * max(abs(y) for y in axes.dataLim.intervaly)
    axes.set_ylim(-reach, 1.45 * reach)
    style = {"color": _INK, "linestyle": "none", "markersize": 5, "markeredgewidth": 1.1}
    handles = [Line2D([], [], marker=m, mfc=fill, label=text, **style) for m, fill, text in marks]
    axes.legend(handles=handles, fontsize=_SMALL, frameon=False, loc="upper left", labelcolor=_INK)


def _mark(axes: Axes, row, marker: str, colour, fill, label: str) -> None:
    style = {"color": colour, "mfc": fill, "ms": 5, "mew": 1.1, "clip_on": False}
    axes.plot(row["loss"], 100 * row["relative_error"], marker, label=label, **style)


def _explained_variance(axes: Axes) -> None:
    """The explained variance on the right of an axis of normalised error."""
    far = axes.secondary_yaxis("right")
    far.set_ylabel("explained variance (%)", fontsize=_NORMAL, color=_INK)
    far.yaxis.set_major_locator(FixedLocator(list(axes.get_yticks())))
    far.yaxis.set_minor_locator(NullLocator())
    far.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{100 * (1 - loss):.4g}"))
    far.tick_params(labelsize=_SMALL, color=_RULE, labelcolor=_INK)
    far.spines["right"].set_visible(False)


def _style(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title, loc="left", fontsize=_NORMAL, color=_INK, fontweight="bold")
    axes.set_xlabel(x_label, fontsize=_NORMAL, color=_INK)
    axes.set_ylabel(y_label, fontsize=_NORMAL, color=_INK)
    axes.tick_params(labelsize=_SMALL, color=_RULE, labelcolor=_INK)
    axes.grid(color=_RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9a9a9a")


def _loss_ticks(axis: Axis, limits) -> None:
    """Ticks at round losses: evenly spaced over a short range, 1-2-5 or so over a long one."""
    low, high = limits
    if high / low < 4:
        ticks = MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    else:
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ticks = np.outer(decades, (1, 2, 3, 5)).ravel()
    axis.set_major_locator(FixedLocator([float(tick) for tick in ticks if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:.4g}"))


def _grid_ticks(axes: Axes, values) -> None:
    """Ticks at the values of the grid; every second or third if there are many."""
    distinct = sorted(set(values))
    axes.xaxis.set_major_locator(FixedLocator(distinct[:: -(-len(distinct) // 8)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))


def _limits(losses) -> tuple[float, float]:
    """The range of the losses with a margin of a tenth of it, in logarithms."""
    margin = (max(losses) / min(losses)) ** 0.1
    return min(losses) / margin, max(losses) * margin


def _colours(colour_map: tuple[str, float, float], count: int) -> list:
    name, first, last = colour_map
    return list(matplotlib.colormaps[name](np.linspace(first, last, count)))


def _number(value: float) -> str:
    """Powers of two from 512 on as powers, other large numbers with k, M, G, and the rest in full."""
    exponent = np.log2(value)
    if value >= 512 and exponent % 1 == 0:
        return f"$2^{{{exponent:.0f}}}$"
    return f"{value:g}" if value < 1e5 else EngFormatter(places=1, sep="")(value)
