"""The feature pages: a static site with an index of all latents, and a page for each.

    index.html        all latents: sorts, searches, and links to the pages
    latents/17.html   latent 17: histograms, logits, windows of text, latents like it
    style.css, page.js, index.js

The site needs no network and no server. Everything is read from an event cache, from the dictionary and from
the model's unembedding; the model does not run.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from dictlearn import files
from dictlearn.events import Events
from dictlearn.lm import LM
from dictlearn.report.features import index, latent
from dictlearn.report.features.panels import Panels
from dictlearn.report.page import asset
from dictlearn.runs.trained import Trained

STYLES = ("style.css", "features/features.css")
SCRIPTS = ("page.js", "index.js")


def write(
    dictionary: Trained,
    lm: LM,
    found: Events,
    folder: Path,
    *,
    explanations: Mapping[int, tuple[str, float | None]] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Writes the feature pages of a dictionary.

    Args:
        dictionary: the dictionary.
        lm: the model that it reads.
        found: every active code of the dictionary on a text.
        folder: the folder of the site, replaced as a whole.
        explanations: {latent: (explanation, its score)}.
        progress: called with (pages written, pages in all).

    Returns:
        The path of the index.
    """
    panels = Panels(dictionary, lm, found, explanations or {})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(folder) as half:
        (half / "latents").mkdir(parents=True)
        style = "".join(asset(name) for name in STYLES)
        (half / "style.css").write_text(style, "utf-8")
        for name in SCRIPTS:
            (half / name).write_text(asset(f"features/{name}"), "utf-8")
        rows = []
        for i in range(found.n_latents):
            feature = panels.feature(i)
            page = latent.render(panels, feature)
            (half / "latents" / f"{i}.html").write_text(page, "utf-8")
            rows.append(index.row(feature))
            progress(i + 1, found.n_latents)
        (half / "index.html").write_text(index.render(panels, rows), "utf-8")
    return folder / "index.html"
