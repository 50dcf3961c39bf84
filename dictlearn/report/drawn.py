"""A figure of a workdir on a page: the drawing, and its numbers to copy."""

import base64
import csv
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path


def figure(drawing: Path, alt: str, caption: str = "") -> str:
    """A drawing and its numbers. The SVG is shown as an image, so that nothing in it can run.

    Args:
        drawing: the SVG; its numbers are in the CSV of the same name.
        alt: what it shows, for screen readers.
        caption: text under it, as HTML.

    Returns:
        HTML.
    """
    data, alt = base64.b64encode(drawing.read_bytes()).decode("ascii"), html.escape(alt)
    words = f"<figcaption>{caption}</figcaption>" if caption else ""
    return (
        f'<figure><div class="scroll" tabindex="0" role="region" aria-label="{alt}">'
        f'<img class="law" src="data:image/svg+xml;base64,{data}" alt="{alt}"></div>{words}</figure>'
        f"{_data(drawing.with_suffix('.csv').read_text('utf-8'))}"
    )


def numbers(columns: Sequence[str], rows: Iterable[Sequence]) -> str:
    """The numbers behind a figure: a button that copies them as CSV, and the text itself, which opens.

    Args:
        columns: the names of the columns.
        rows: a cell for each column.

    Returns:
        HTML.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    return _data(text.getvalue())


def _data(text: str) -> str:
    return (
        '<div class="data"><button class="copy scripted">Copy its data</button><details>'
        f"<summary>Data as CSV</summary><pre>{html.escape(text)}</pre></details></div>"
    )
