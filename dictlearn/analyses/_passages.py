"""Passages of text around a peak, in readable cells.

A cell is one token, or several tokens that spell characters only together: a byte-level token may end inside a
character. The activation of a cell is the largest of its tokens.
"""

from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from dictlearn.lm.cells import TORN, decode, group

BEFORE, AFTER = 16, 8
"""Cells shown before and after the peak."""


class Cell(NamedTuple):
    """text: as in the document. val: the activation, 0 if the latent is not active."""

    text: str
    val: float


class Passage(NamedTuple):
    """Cells in order. `cells[peak]` is the peak, with activation `val`. cut_before, cut_after: whether the
    document has text before the first cell, and after the last.
    """

    cells: list[Cell]
    peak: int
    val: float
    cut_before: bool
    cut_after: bool


def passage(
    tokenizer: Tokenizer,
    tokens_ST: np.ndarray,
    val_ST: np.ndarray,
    document_ST: np.ndarray,
    at: tuple[int, int],
) -> Passage:
    """The cells around the peak `at` (sequence, position), within its sequence and its document.

    document_ST: see `documents`. The axis U is S and T flattened.
    """
    whole_U = np.flatnonzero(document_ST == document_ST[at])
    here_U = whole_U[whole_U // document_ST.shape[1] == at[0]]
    val_U = val_ST.ravel()[here_U]
    groups = group(tokenizer, tokens_ST.ravel()[here_U].tolist())
    t = at[1] - int(here_U[0] % document_ST.shape[1])
    peak = next(i for i, (_, members) in enumerate(groups) if t < members.stop)
    shown = groups[max(0, peak - BEFORE) : peak + AFTER + 1]
    first, last = here_U[shown[0][1].start], here_U[shown[-1][1].stop - 1]
    return Passage(
        [Cell(text, float(val_U[members].max())) for text, members in shown],
        min(peak, BEFORE),
        float(val_ST[at]),
        bool(first > whole_U[0]),
        bool(last < whole_U[-1]),
    )


def documents(tokens_ST: np.ndarray, separator: int) -> np.ndarray:
    """The index of the document of each token, -1 for separators, int [S, T].

    Sequences are consecutive pieces of documents that each end in the separator.
    """
    ends = tokens_ST.ravel() == separator
    return np.where(ends, -1, np.cumsum(ends)).reshape(tokens_ST.shape)


def readable(tokenizer: Tokenizer, token: int) -> str:
    """A single token: its text, or its id if it is a part of a character."""
    text = decode(tokenizer, [token])
    return f"[byte {token}]" if TORN in text else text
