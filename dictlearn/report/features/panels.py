"""What a feature page shows of a latent, as data: computed once for all latents, or when a page asks for it.

Source: the panels of SAEDashboard (code of 0.8.0) and of Neuronpedia.
Differs: windows never cross documents; intervals are of the magnitude; latents are also compared by their
directions and by the tokens on which they fire.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dictlearn.analyses import _logits
from dictlearn.analyses._loss_effects import loss_effects
from dictlearn.events import Events, Rows, near, windows
from dictlearn.events.neurons import neurons
from dictlearn.lm import LM
from dictlearn.report.features.passages import Passages, Window
from dictlearn.report.features.reads import Inputs, Reads
from dictlearn.runs.atoms import aligned, atoms, encoder_rows
from dictlearn.runs.trained import Trained

TOP, INTERVALS, EACH, EFFECTS = 20, 10, 5, 5
"""Windows of the largest activations; intervals, and windows of each; windows with effects on the loss."""
LOGITS, NEAREST, ALIGNED = 10, 5, 3


class Group(NamedTuple):
    """Windows of one interval. share: of all activations of the latent; None for the largest ones."""

    low: float
    high: float
    share: float | None
    windows: list[Window]


class Lens(NamedTuple):
    """The tokens whose logits a latent raises and lowers most, and a histogram of all, from `low` to `high`.
    Weights are those of a unit atom; size: the norm of its raw atom."""

    top: list[tuple[str, float]]
    bottom: list[tuple[str, float]]
    counts: list[int]
    low: float
    high: float
    size: float = 1.0


class Feature(NamedTuple):
    """One latent. counts: a histogram of its activations, up to the largest. near: {name: [(latent, score)]}.
    aligned: the largest dimensions of its unit atom, [(dimension, value, share of the L1 norm)]. peaks: the
    tokens at its top peaks, with how many there are. reads: its input side. neurons: the
    dimensions of the tap that correlate most with it, [(dimension, correlation, cosine)]."""

    index: int
    n_fired: int
    density: float
    largest: float
    mean: float
    counts: list[int]
    groups: list[Group]
    peaks: list[tuple[str, int]]
    lens: Lens | None
    near: Mapping[str, list[tuple[int, float]]]
    aligned: list[tuple[int, float, float]]
    explanation: tuple[str, float | None] | None
    reads: Reads = Reads()
    neurons: Sequence[tuple[int, float, float]] = ()


class Panels:
    """The data of all pages of one dictionary.

    Args:
        dictionary: the dictionary.
        lm: the model that it reads.
        found: every active code of the dictionary on a text.
        explanations: {latent: (explanation, its score)}.
        effects: called with (pairs done, pairs in all) of what the model must run over the text for: effects
            on the loss, and the source tokens of latents of attention. None for pages without them.
        rows: the activations of the text; None for pages without correlations with their dimensions.
    """

    def __init__(
        self,
        dictionary: Trained,
        lm: LM,
        found: Events,
        explanations: Mapping[int, tuple[str, float | None]],
        effects: Callable[[int, int], None] | None = None,
        rows: Rows | None = None,
    ):
        self.dictionary, self.lm, self.found = dictionary, lm, found
        self.explanations = explanations
        lm.check_tokens(np.asarray(found.tokens_ST), f"The text of {dictionary.name}")
        self._passages = Passages(lm, found)
        self._bounds, self.word = self._passages.bounds, self._passages.word
        raw_FD = atoms(dictionary)
        self._atoms_FD, self._size_F = _unit(raw_FD), np.linalg.norm(raw_FD, axis=1)
        some = near.compared(found)
        self._near = _neighbours(dictionary, self._atoms_FD, some)
        target = dictionary.sites[0].target if dictionary.sites else ()
        unit_FD = _logits.in_stream(lm, target, self._atoms_FD)
        self._effects = None if unit_FD is None else _logits.direct(lm, unit_FD, LOGITS)
        self._inputs = Inputs(dictionary, lm, raw_FD)
        self._on_loss: dict[tuple[int, int], float] = {}
        self._neurons = neurons(some, rows, ALIGNED) if rows else None
        if effects:
            self._run(_logits.in_stream(lm, target, raw_FD), effects)

    def _run(self, written_FD: np.ndarray | None, progress: Callable[[int, int], None]) -> None:
        """What the model must run over the text for. written_FD: the atoms in the residual stream."""
        self._inputs.attribute(self.found.tokens_ST, *self._peaks(), progress)
        if written_FD is not None:
            pairs = self._shown()
            values = loss_effects(self.lm, self.found.tokens_ST, *pairs, written_FD, progress)
            keys = zip(pairs[0].tolist(), pairs[1].tolist(), strict=True)
            known = zip(keys, values.tolist(), strict=True)
            self._on_loss = {key: value for key, value in known if value == value}

    def _peaks(self) -> tuple[np.ndarray, np.ndarray]:
        """(place_P, latent_P): where each latent that fires has its largest window."""
        fired = np.flatnonzero(self.found.count_F)
        places = [windows.top(self.found, i, 1, self._bounds)[0] for i in fired.tolist()]
        return np.array(places, np.int64), fired

    def _shown(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(latent_P, place_P, val_P): where latents fire in their EFFECTS largest windows."""
        pairs = []
        for i in range(self.found.n_latents):
            for place in windows.top(self.found, i, EFFECTS, self._bounds).tolist():
                place_E, val_E = self.found.within(i, self._bounds.around(place))
                pairs.append((np.full(len(val_E), i), place_E, val_E))
        empty = np.empty(0, int), np.empty(0, int), np.empty(0, np.float32)
        latent_P, place_P, val_P = map(np.concatenate, zip(empty, *pairs, strict=True))
        return latent_P, place_P.astype(np.int64), val_P

    def feature(self, i: int) -> Feature:
        """The data of a latent."""
        found = self.found
        size_E = np.abs(found.of(i)[1])
        groups = self._groups(i)
        words = (
            Counter(one.cells[one.peak][0] for one in groups[0].windows) if groups else Counter()
        )
        return Feature(
            i,
            len(size_E),
            float(found.density_F[i]),
            float(size_E.max(initial=0.0)),
            float(size_E.mean()) if len(size_E) else 0.0,
            windows.histogram(found, i).tolist(),
            groups,
            words.most_common(3),
            self._lens(i),
            {name: one.of(i) for name, one in self._near.items()},
            aligned(self._atoms_FD[i], ALIGNED),
            self.explanations.get(i),
            self._inputs.of(i),
            self._neurons.of(i) if self._neurons else (),
        )

    def _groups(self, i: int) -> list[Group]:
        """The largest activations, then the intervals; none for a latent that never fires."""
        val_E = self.found.of(i)[1]
        if not len(val_E):
            return []
        best = windows.top(self.found, i, TOP, self._bounds)
        largest = float(np.abs(val_E).max())
        window = functools.partial(self._passages.window, i, on_loss=self._on_loss)
        seen = lambda places: [window(place) for place in places.tolist()]
        found = [Group(0.0, largest, None, seen(best))]
        for one in windows.intervals(self.found, i, INTERVALS, EACH):
            found.append(Group(one.low, one.high, one.share, seen(one.place_P)))
        return found

    def _lens(self, i: int) -> Lens | None:
        if self._effects is None:
            return None
        tops, weights, bottoms, lows, counts_IN = self._effects
        top = _logits.named(self.lm, tops[i], weights[i])
        bottom = _logits.named(self.lm, bottoms[i], lows[i])
        return Lens(
            top, bottom, counts_IN[i].tolist(), bottom[0][1], top[0][1], float(self._size_F[i])
        )


def _neighbours(dictionary: Trained, atoms_FD: np.ndarray, some: Events) -> dict[str, near.Near]:
    named = {"decoder": near.cosine(atoms_FD, NEAREST)}
    if (rows_FD := encoder_rows(dictionary)) is not None:
        named["encoder"] = near.cosine(rows_FD, NEAREST)
    return {
        **named,
        "fires on the same tokens": near.jaccard(some, NEAREST),
        "correlates": near.pearson(some, NEAREST),
    }


def _unit(atoms_FD: np.ndarray) -> np.ndarray:
    size_F = np.linalg.norm(atoms_FD, axis=1, keepdims=True)
    return atoms_FD / np.where(size_F > 0, size_F, 1)
