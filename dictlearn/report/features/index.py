"""The index of all latents: its rows as columns of JSON, which `index.js` sorts, searches and draws."""

import html
import json
from collections.abc import Sequence
from string import Template
from typing import Any, NamedTuple

from dictlearn.report.features.panels import Feature, Panels
from dictlearn.report.page import asset


class Column(NamedTuple):
    """kind: "number", or "words", which is searched. A column without a value in any row is left out."""

    key: str
    title: str
    kind: str
    meaning: str


COLUMNS = (
    Column("density", "density", "number", "the share of tokens on which it fires"),
    Column("largest", "largest", "number", "its largest activation"),
    Column("peaks", "peaks on", "words", "the tokens of its largest activations"),
    Column("raises", "raises", "words", "the tokens whose logits it raises most"),
    Column("explanation", "explanation", "words", ""),
    Column("score", "score", "number", "of the explanation"),
)
_LATENT = Column("index", "latent", "number", "its number, which opens its page")


def row(one: Feature) -> dict[str, Any]:
    """The values of a latent, by column."""
    said, score = one.explanation or (None, None)
    return {
        "density": _short(one.density),
        "largest": _short(one.largest),
        "peaks": " ".join(_visible(text) for text, _ in one.peaks),
        "raises": " ".join(_visible(text) for text, _ in one.lens.top[:3]) if one.lens else None,
        "explanation": said,
        "score": score if score is None else _short(score),
    }


def render(panels: Panels, rows: Sequence[dict[str, Any]]) -> str:
    """The page as text."""
    found, dictionary = panels.found, panels.dictionary
    columns = [c for c in COLUMNS if any(row[c.key] not in (None, "") for row in rows)]
    data = {
        "columns": [[c.key, c.kind] for c in columns],
        "values": {c.key: [row[c.key] for row in rows] for c in columns},
        "n": len(rows),
    }
    site = dictionary.sites[0] if dictionary.sites else None
    dead = sum(row["density"] == 0 for row in rows)
    return Template(asset("features/index.html")).substitute(
        name=html.escape(dictionary.name or "dictionary"),
        site=html.escape(f"{' + '.join(site.tap)} in {panels.lm.name}" if site else panels.lm.name),
        n=f"{len(rows)}",
        summary=f"Read on {found.n_tokens:,} tokens in sequences of {found.length}. {dead:,} never fired.",
        heads="".join(map(_head, (_LATENT, *columns))),
        # No text may end the script element.
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _head(column: Column) -> str:
    about = f' title="{html.escape(column.meaning)}"' if column.meaning else ""
    return (
        f'<th scope="col" class="{column.key} {column.kind}"{about}>'
        f'<button data-key="{column.key}">{column.title}</button></th>'
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _visible(text: str) -> str:
    """A token with visible white space at its ends."""
    return text.replace(" ", "·").replace("\n", "↵").replace("\t", "⇥")
