"""A panel of a figure: linear axes, a grid, and marks, written as SVG."""

import html
from collections.abc import Sequence

_WIDTH, _HEIGHT = 250, 165
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 232, 14, 143
_MOST_DOTS = 16


class Panel:
    """Marks over the ranges `x` and `y`: strings of SVG, drawn in the order of adding."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]):
        self.x, self.y = x, y
        self._marks: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The position of a data point on the drawing."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return _LEFT + across * (_RIGHT - _LEFT), _BOTTOM - up * (_BOTTOM - _TOP)

    def add(self, *marks: str) -> None:
        self._marks.extend(marks)

    def grid(self, xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]]) -> None:
        """Draws ticks (value, label): horizontal lines for `ys`, labels for both."""
        for y, name in ys:
            _, height = self.at(self.x[0], y)
            ends = f'x1="{_LEFT}" x2="{_RIGHT}" y1="{height:.1f}" y2="{height:.1f}"'
            self.add(f'<line class="rule" {ends}/>', _text(_LEFT - 5, height + 3.5, name, "end"))
        for x, name in xs:
            self.below(x, name)

    def below(self, x: float, name: str, colour: str = "") -> None:
        """A label under the axis."""
        across, _ = self.at(x, self.y[0])
        self.add(_text(across, _HEIGHT - 6, name, "middle", colour))

    def svg(self, name: str) -> str:
        """The drawing; a screen reader reads `name`."""
        shape = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(name)}"'
        return f"<svg {shape}>{''.join(self._marks)}</svg>"


def line(panel: Panel, points: Sequence[tuple[float, float]], colour: str) -> str:
    """A line through data points, with dots if they are few."""
    places = [panel.at(*point) for point in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = places if len(places) <= _MOST_DOTS else []
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
        + "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.8" fill="{colour}"/>' for x, y in dots)
    )


def bar(panel: Panel, left: float, right: float, height: float, colour: str) -> str:
    """A bar from the axis up, with a thin white gap at its side.

    Args:
        panel: the panel.
        left, right, height: its edges, in units of the data.
        colour: its colour.

    Returns:
        SVG.
    """
    x0, y0 = panel.at(left, panel.y[0])
    x1, y1 = panel.at(right, height)
    width = max(x1 - x0 - 0.6, 0.4)
    shape = f'x="{x0:.1f}" y="{y1:.1f}" width="{width:.1f}" height="{y0 - y1:.1f}"'
    return f'<rect {shape} fill="{colour}"/>'


def bars(panel: Panel, heights: Sequence[float]) -> str:
    """Bars of width 1 from x = 0 on, as one path."""
    _, base = panel.at(0, panel.y[0])
    drawn = []
    for i, height in enumerate(heights):
        if height:
            (left, top), (right, _) = panel.at(i, height), panel.at(i + 1, 0)
            drawn.append(f"M{left:.1f} {base:.1f}V{top:.1f}H{right - 0.5:.1f}V{base:.1f}")
    return f'<path d="{"".join(drawn)}"/>'


def text(panel: Panel, x: float, y: float, name: str, colour: str) -> str:
    """Text just above a data point, centred."""
    across, height = panel.at(x, y)
    return _text(across, height - 3, name, "middle", colour)


def _text(x: float, y: float, name: str, anchor: str, colour: str = "") -> str:
    fill = f' style="fill:{colour}"' if colour else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{fill}'
    return f"<text {place}>{html.escape(name)}</text>"
