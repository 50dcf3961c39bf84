"""What a latent reads, where its page says it: for a transcoder tokens, for attention heads and source tokens.

A transcoder's atom says nothing of its input. Of a latent of the heads' outputs, its decoder says which heads
write it, and its largest activation is attributed to the tokens that the heads read.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dictlearn.analyses import _embeddings, _logits, _sources
from dictlearn.circuits import heads
from dictlearn.lm import LM
from dictlearn.runs.atoms import raw_encoder_rows
from dictlearn.runs.trained import Trained

TOKENS, SOURCES = 10, 10
"""Tokens on either side; source tokens of the largest activation."""


class Source(NamedTuple):
    """A source token of an activation. before: how many tokens it comes before. val: what it adds to the
    pre-activation. head: the head that adds most of it."""

    token: int
    before: int
    val: float
    head: int


class Reads(NamedTuple):
    """What a latent reads. raised, lowered: the tokens whose embeddings raise and lower it most. shares: the
    share of each head in its atom. sources: the source tokens of its largest activation, the largest first.
    total: what all source tokens add up to."""

    raised: Sequence[tuple[str, float]] = ()
    lowered: Sequence[tuple[str, float]] = ()
    shares: Sequence[float] = ()
    sources: Sequence[Source] = ()
    total: float = 0.0


class Inputs:
    """The input side of all latents.

    Args:
        dictionary: the dictionary.
        lm: the model that it reads.
        atoms_FD: its raw atoms.
    """

    def __init__(self, dictionary: Trained, lm: LM, atoms_FD: np.ndarray):
        self._lm, site = lm, dictionary.sites[0] if dictionary.sites else None
        tap = site.tap[0] if site and len(site.tap) == 1 else ""
        name, _, layer = tap.partition(".")
        self._rows_FD = raw_encoder_rows(dictionary) if tap else None
        self._tokens = self._shares_Fh = self._layer = None
        self._sources: dict[int, tuple[Sequence[Source], float]] = {}
        if site and site.target != site.tap and self._rows_FD is not None:
            embed_VD = _embeddings.as_read(lm, tap)
            if embed_VD is not None:
                self._tokens = _logits.extremes(self._rows_FD, embed_VD.T, TOKENS)
        if name == "attn_z" and site and site.target == site.tap:
            self._layer = int(layer)
            self._shares_Fh = heads.head_shares(atoms_FD, lm.spec.n_heads)

    def attribute(
        self,
        tokens_ST: np.ndarray,
        peak_P: np.ndarray,
        latent_P: np.ndarray,
        progress: Callable[[int, int], None],
    ) -> None:
        """Attributes the activations of latents at their peaks to source tokens; the model runs over the text.
        Only latents of attention with a linear encoder have it."""
        if self._layer is None or self._rows_FD is None:
            return
        rows_PH = self._rows_FD[latent_P]
        found = _sources.at(self._lm, self._layer, tokens_ST, peak_P, rows_PH)
        for n, val_hT in enumerate(found):
            sequence, position = divmod(int(peak_P[n]), tokens_ST.shape[1])
            self._sources[int(latent_P[n])] = _largest(tokens_ST[sequence], position, val_hT)
            progress(n + 1, len(peak_P))

    def of(self, i: int) -> Reads:
        """What latent `i` reads."""
        raised = lowered = ()
        if self._tokens is not None:
            tops, most, bottoms, least, _ = self._tokens
            raised = _logits.named(self._lm, tops[i], most[i])
            lowered = _logits.named(self._lm, bottoms[i], least[i])
        shares = () if self._shares_Fh is None else self._shares_Fh[i].tolist()
        return Reads(raised, lowered, shares, *self._sources.get(i, ((), 0.0)))


def _largest(token_T: np.ndarray, position: int, val_hT: np.ndarray) -> tuple[list[Source], float]:
    """(the source tokens that add or take most, what all of them add up to)."""
    val_T = val_hT.sum(0)
    order = np.argsort(-np.abs(val_T[: position + 1]), kind="stable")[:SOURCES]
    made = [
        Source(int(token_T[s]), position - s, float(val_T[s]), int(np.abs(val_hT[:, s]).argmax()))
        for s in order.tolist()
    ]
    return made, float(val_T.sum())
