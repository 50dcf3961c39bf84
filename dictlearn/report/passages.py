"""Passages of text around a peak, in cells that can be read.

A cell is a token, or several that only together spell their characters: byte-level tokens may end within
one. The cell's activation is the largest of its tokens'.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

BEFORE, AFTER = 16, 8
"""Cells shown before and after the peak."""

_TORN = "\N{REPLACEMENT CHARACTER}"
_MOST_BYTES = 4  # of a character in UTF-8, so a torn cell never needs more tokens


class Cell(NamedTuple):
    """text: as it stands in the document. val: the activation, 0 where the latent is not active."""

    text: str
    val: float


class Passage(NamedTuple):
    """Cells in order; `cells[peak]` holds the peak, whose activation is `val`. The text was cut off
    before the first cell (`opens` False) or after the last (`ends` False)."""

    cells: list[Cell]
    peak: int
    val: float
    opens: bool
    ends: bool


def passage(tokenizer: Tokenizer, tokens_T: np.ndarray, val_T: np.ndarray, peak: int) -> Passage:
    """The cells around token number `peak` of one document's tokens."""
    groups = group(tokenizer, tokens_T.tolist())
    cells, at = [], 0
    for text, members in groups:
        if members.start <= peak < members.stop:
            at = len(cells)
        cells.append(Cell(text, float(val_T[members].max())))
    first, last = max(0, at - BEFORE), min(len(cells), at + AFTER + 1)
    shown = cells[first:last]
    return Passage(shown, at - first, float(val_T[peak]), first == 0, last == len(cells))


def group(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[tuple[str, slice]]:
    """(text, tokens) of each cell, in order. Bytes that are no text become U+FFFD, as decoders do."""
    found, start = [], 0
    for stop in range(1, len(tokens) + 1):
        text = _decode(tokenizer, tokens[start:stop])
        torn = text.endswith(_TORN) and stop - start < _MOST_BYTES and stop < len(tokens)
        if not torn:
            found.append((text, slice(start, stop)))
            start = stop
    return found


def readable(tokenizer: Tokenizer, token: int) -> str:
    """A token on its own: its text, or the vocabulary's number for a piece of a character."""
    text = _decode(tokenizer, [int(token)])
    return f"[piece of a character, token {token}]" if _TORN in text else text


def _decode(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    return tokenizer.decode(list(tokens), skip_special_tokens=False)
