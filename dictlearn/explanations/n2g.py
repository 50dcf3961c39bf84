"""N2G: the tokens that make a latent fire, as patterns in a trie, found by cutting and replacing tokens.

For each text, cut after its peak: the shortest suffix on which the latent keeps half of its activation is the
pattern. A token that may be replaced by padding at less than half of the loss becomes a wildcard. If only the
whole text works, padding is put in front: where that stops the latent, the pattern must begin the text. The
reversed pattern is a path of the trie, and its end holds the activation.

A prediction walks from each token backwards. An exact token goes before a wildcard, without turning back; the
first activation on the path is the prediction, and 0 if the path ends before.

Source: Foote et al. 2023, "Neuron to graph" (arXiv:2305.19911); Gao et al. 2024 (arXiv:2406.04093), 4.3.
Differs: texts are not augmented by a masked language model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dictlearn.explanations.codes import Codes

ANY, START = -1, -2
"""Steps of a pattern: any token; the beginning of the text."""
_KEPT = 0.5


@dataclass
class Trie:
    """Patterns by their reversed tokens. val: the largest activation of the patterns that end here."""

    val: float = 0.0
    after: dict[int, "Trie"] = field(default_factory=dict)

    def add(self, steps: Sequence[int], val: float) -> None:
        """Adds a pattern by its steps, the last token first."""
        here = self
        for step in steps:
            here = here.after.setdefault(step, Trie())
        here.val = max(here.val, val)

    def predict(self, tokens: Sequence[int], begins: bool = True) -> list[float]:
        """The activation at each token. begins: whether the text is the beginning of its sequence."""
        return [self._at(tokens[: stop + 1], begins) for stop in range(len(tokens))]

    def patterns(self) -> list[tuple[list[int], float]]:
        """(pattern, activation) of all, in the order of the text, the largest activation first."""
        found = [([], self.val)] if self.val else []
        for step, trie in self.after.items():
            found += [([*pattern, step], val) for pattern, val in trie.patterns()]
        return sorted(found, key=lambda one: (-one[1], one[0]))

    def _at(self, tokens: Sequence[int], begins: bool) -> float:
        here = self
        for token in reversed(tokens):
            found = here.after.get(token) or here.after.get(ANY)
            if found is None:
                return 0.0
            if found.val:
                return found.val
            here = found
        return here.after[START].val if begins and START in here.after else 0.0


def build(texts: Sequence[tuple[Sequence[int], int]], codes: Codes, pad: int) -> Trie:
    """The trie of a latent.

    Args:
        texts: (tokens, the place of the peak) of each text.
        codes: the latent's activations on any texts.
        pad: the token that replaces others.

    Returns:
        The trie; texts on which the latent does not fire when they stand alone give no pattern.

    Example:
        >>> import numpy as np
        >>> codes = lambda texts: [np.array([float(token == 3) for token in text]) for text in texts]
        >>> trie = build([((1, 2, 3), 2), ((2, 3, 4), 1)], codes, pad=0)
        >>> trie.predict([3, 2, 3]), trie.patterns()
        ([1.0, 0.0, 1.0], [([3], 1.0)])
    """
    trie, last = Trie(), lambda texts: np.array([float(vals[-1]) for vals in codes(texts)])
    wholes = [list(tokens[: peak + 1]) for tokens, peak in texts]
    shortest = _in_one([[whole[start:] for start in range(len(whole))] for whole in wholes], last)
    fire = [(whole, vals) for whole, vals in zip(wholes, shortest, strict=True) if vals[0] > 0]
    starts = [int(np.flatnonzero(vals >= _KEPT * vals[0])[-1]) for _, vals in fire]
    suffixes = [whole[start:] for (whole, _), start in zip(fire, starts, strict=True)]
    after = _in_one([_changed(suffix, pad) for suffix in suffixes], last)
    for (_, vals), start, suffix, changed in zip(fire, starts, suffixes, after, strict=True):
        small = changed <= (1 - _KEPT) * vals[start]
        trie.add(_steps(suffix, small, whole=start == 0), float(vals[0]))
    return trie


def _in_one(groups: list[list[list[int]]], last: Callable) -> list[np.ndarray]:
    """The last activations of the texts of each group, which are all asked for at once."""
    every = [text for group in groups for text in group]
    ends = np.cumsum([len(group) for group in groups])[:-1]
    return np.split(last(every), ends) if every else []


def _changed(suffix: list[int], pad: int) -> list[list[int]]:
    """The suffix with each of its tokens replaced in turn, and with padding in front."""
    return [*([*suffix[:i], pad, *suffix[i + 1 :]] for i in range(len(suffix))), [pad, *suffix]]


def _steps(suffix: list[int], small: np.ndarray, whole: bool) -> list[int]:
    """The steps of a pattern. small: which change of `_changed` costs more than the activation may lose. whole:
    whether the suffix is the whole text."""
    steps = [token if kept else ANY for token, kept in zip(suffix, small, strict=False)][::-1]
    return steps + [START] * bool(whole and small[-1])
