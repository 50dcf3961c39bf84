"""The format of numbers, tokens and tables on a page."""

import html
import math
from collections.abc import Iterable, Sequence


def shown(value: float | None, form: str) -> str:
    """A value in a format such as ".4f" or ".1%", with a real minus sign and a narrow space before the per cent
    sign; a dash for None.
    """
    if value is None:
        return "–"
    return format(value, form).replace("-", "−").replace("%", "\N{NARROW NO-BREAK SPACE}%")


def number(value: float | None) -> str:
    """A value whose size is not known: four digits of a float, a whole integer; a dash for None."""
    return shown(value, ".4g" if isinstance(value, float) else ",")


def decimals(largest: float) -> str:
    """The format that shows `largest` with three significant digits, for values up to it."""
    places = 2 - math.floor(math.log10(largest)) if largest > 0 else 2
    return f".{max(0, places)}f"


def marked(text: str) -> str:
    """Text with visible line ends, as HTML."""
    return html.escape(text).replace("\n", '<i class="mark">↵</i>')


def token(text: str) -> str:
    """A single token with visible white space, as HTML."""
    marks = {" ": "·", "\n": "↵", "\t": "⇥", "\N{NO-BREAK SPACE}": "⍽"}
    seen = (f'<i class="mark">{marks[c]}</i>' if c in marks else html.escape(c) for c in text)
    return f"<code>{''.join(seen)}</code>"


def table(name: str, heads: Sequence[str], rows: Iterable[str], kind: str = "") -> str:
    """A table that scrolls sideways on a narrow screen.

    Args:
        name: its name, for screen readers.
        heads: whole `th` elements.
        rows: the cells of each row, as HTML.
        kind: its CSS class.

    Returns:
        HTML.
    """
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(name)}">'
        f'<table class="{kind}"><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def head(title: str, meaning: str = "", number: bool = True) -> str:
    """The heading of a column of numbers or of words, as HTML."""
    about = f' title="{html.escape(meaning)}"' if meaning else ""
    return f'<th scope="col"{" class=number" if number else ""}{about}>{title}</th>'
