"""Heat maps: one panel for each matrix, with the names of one side in rows and of the other in columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

_MOST_NUMBERS = 12


def heat(names: tuple[Sequence[str], Sequence[str]], panels: Mapping[str, Any]) -> Figure:
    """panels: {title: rows of numbers, None for no value}. Cells show their number if there are few."""
    size = 2.2 + 0.28 * max(map(len, names))
    figure = Figure(figsize=(size * len(panels) + 0.6, size + 0.6), dpi=160, layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for (title, rows), axes in zip(panels.items(), every, strict=True):
        values = np.array(rows, float)
        image = axes.imshow(values, cmap="viridis")
        axes.set_title(title, fontsize=9)
        axes.set_xticks(range(len(names[1])), names[1], rotation=90, fontsize=7)
        axes.set_yticks(range(len(names[0])), names[0], fontsize=7)
        if max(values.shape) <= _MOST_NUMBERS:
            for (i, j), value in np.ndenumerate(values):
                bright = "black" if image.norm(value) > 0.6 else "white"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=5, color=bright)
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure
