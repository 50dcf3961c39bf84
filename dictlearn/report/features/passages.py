"""Windows of text around the peaks of a latent, from an event cache, as cells that a reader can see."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dictlearn.events import Events, windows
from dictlearn.lm import LM
from dictlearn.lm.cells import TORN, group


class Window(NamedTuple):
    """Cells of text, (text, activation) each. `peak` is the cell of the peak, whose activation is `val`.
    cut_before, cut_after: whether the document goes on. effects: {cell: effect on the loss of the next token}.
    """

    cells: list[tuple[str, float]]
    peak: int
    val: float
    cut_before: bool
    cut_after: bool
    effects: Mapping[int, float] = {}


class Passages:
    """The windows of the latents of one event cache.

    Args:
        lm: the model whose tokens the cache holds.
        found: the cache.
    """

    def __init__(self, lm: LM, found: Events):
        self._lm, self._found, self._words = lm, found, {}
        self.bounds = windows.bounds(found.tokens_ST, lm.separator)

    def window(self, i: int, place: int, on_loss: Mapping[tuple[int, int], float] = {}) -> Window:
        """The window of latent `i` around a place. on_loss: {(latent, place): effect on the loss}."""
        own = self.bounds.around(place)
        place_E, val_E = self._found.within(i, own)
        val_T = np.zeros(own.stop - own.start, np.float32)
        val_T[place_E.astype(np.int64) - own.start] = val_E
        tokens = self._found.tokens_ST.reshape(-1)[own].tolist()
        at = place - own.start
        cells = list(zip(map(self.word, tokens), val_T.tolist(), strict=True))
        known = [(t, on_loss.get((i, own.start + t))) for t in np.flatnonzero(val_T).tolist()]
        effects = {t: effect for t, effect in known if effect is not None}
        if any(TORN in text for text, _ in cells):
            parts = group(self._lm.tokenizer, tokens)
            cells = [(text, _extreme(val_T[members])) for text, members in parts]
            cell_T = np.repeat(np.arange(len(parts)), [part.stop - part.start for _, part in parts])
            at = int(cell_T[at])
            # Of the tokens of one character, the last one's is shown: it comes before the next cell.
            effects = {int(cell_T[t]): effect for t, effect in effects.items()}
        before = own.start > int(self.bounds.first_U[place])
        after = own.stop < int(self.bounds.stop_U[place])
        return Window(cells, at, float(val_T[place - own.start]), before, after, effects)

    def word(self, token: int) -> str:
        """The text of a token."""
        if token not in self._words:
            self._words[token] = self._lm.tokenizer.decode([token], skip_special_tokens=False)
        return self._words[token]


def _extreme(val_T: np.ndarray) -> float:
    return float(val_T[np.abs(val_T).argmax()])
