"""Heat maps of what `dictlearn compare A B` finds: a panel for each measure, A down, B across."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

_TITLES = {
    "jaccard": "Jaccard of keys (ITDA)",
    "cka": "linear CKA",
    "svcca": "SVCCA",
    "relative": "relative representations",
    "mmcs_ab": "MMCS, A in B",
    "mmcs_ba": "MMCS, B in A",
    "one_to_one": "one to one, mean cosine",
}
_MOST_NUMBERS = 12


def draw(found: Mapping, path: Path) -> None:
    """The measures of `similarity.json` as a PNG; cells are numbered while there are few."""
    shown = {name: found["measures"][name] for name in _TITLES if name in found["measures"]}
    names = found["names"]
    size = 2.2 + 0.28 * max(map(len, names))
    figure = Figure(figsize=(size * len(shown) + 0.6, size + 0.6), dpi=160, layout="constrained")
    for (name, rows), axes in zip(
        shown.items(), figure.subplots(1, len(shown), squeeze=False)[0], strict=True
    ):
        values = np.array(rows, float)
        image = axes.imshow(values, cmap="viridis")
        score = found.get("scores", {}).get(name)
        title = _TITLES[name] if score is None else f"{_TITLES[name]}\nlayers matched {score:.2f}"
        axes.set_title(title, fontsize=9)
        axes.set_xticks(range(len(names[1])), names[1], rotation=90, fontsize=7)
        axes.set_yticks(range(len(names[0])), names[0], fontsize=7)
        if max(values.shape) <= _MOST_NUMBERS:
            for (i, j), value in np.ndenumerate(values):
                bright = "black" if image.norm(value) > 0.6 else "white"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=5, color=bright)
        figure.colorbar(image, ax=axes, shrink=0.8)
    figure.savefig(path, format="png")
