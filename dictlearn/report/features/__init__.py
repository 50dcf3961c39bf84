"""The feature pages: a static site with an index of all latents, and a page for each.

    index.html        all latents: sorts, searches, and links to the pages
    latents/17.html   latent 17: histograms, logits, windows of text, latents like it
    style.css, page.js, index.js

The site needs no network and no server. Everything is read from an event cache, from the dictionary and from
the model's unembedding. The model runs only for effects on the loss.
"""

from collections.abc import Callable
from pathlib import Path

from dictlearn import files
from dictlearn.report.features import index, latent
from dictlearn.report.features.panels import Panels
from dictlearn.report.page import asset

__all__ = ["SCRIPTS", "STYLES", "Panels", "write"]

STYLES = ("style.css", "features/features.css")
SCRIPTS = ("page.js", "index.js")


def write(
    panels: Panels, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Writes the feature pages of a dictionary.

    Args:
        panels: the data of the pages.
        folder: the folder of the site, replaced as a whole.
        progress: called with (pages written, pages in all).

    Returns:
        The path of the index.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(folder) as half:
        (half / "latents").mkdir(parents=True)
        style = "".join(asset(name) for name in STYLES)
        (half / "style.css").write_text(style, "utf-8")
        for name in SCRIPTS:
            (half / name).write_text(asset(f"features/{name}"), "utf-8")
        rows, n_latents = [], panels.found.n_latents
        for i in range(n_latents):
            feature = panels.feature(i)
            page = latent.render(panels, feature)
            (half / "latents" / f"{i}.html").write_text(page, "utf-8")
            rows.append(index.row(feature))
            progress(i + 1, n_latents)
        (half / "index.html").write_text(index.render(panels, rows), "utf-8")
    return folder / "index.html"
