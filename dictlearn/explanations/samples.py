"""The windows of text of one latent: those that its explanation is made from, and others that test it.

Windows are cut from the start of sequences, ordered by their largest activation, and divided into slices of
equal size by rank. Test windows are drawn first, the same number from each slice. Then train windows are drawn
from what is left, so that no window, and no text, is in both. Silent windows are those on which the latent does
not fire; where they come from is kept, because some are harder than others.

Source: delphi (code of 0.1.3), the sampler by quantile and the choice of silent windows.
Differs: train and test are disjoint; delphi draws them separately with one seed (`overlap`). A text is drawn
once.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dictlearn.events import Events
from dictlearn.events.windows import maxima

SILENT = -1
"""The quantile of a window on which the latent does not fire."""
FIRES = "fires"
_OPEN, _CLOSE = "<<", ">>"
_KNOWN = {
    "protocol": ("quantiles", "autointerp"),
    "train": ("quantiles", "top", "random", "mix"),
    "silent": ("random", "neighbours"),
}
_TOP_OF_MIX = 0.2

Texts = Callable[[Sequence[int]], Sequence[tuple[str, slice]]]
"""(text, tokens) of each cell of some tokens, as `lm.cells.group` gives them."""


class Example(NamedTuple):
    """A window of text.

    Args:
        tokens: its tokens.
        cells: its text in readable cells.
        vals: the largest magnitude of the latent in each cell, 0 where it is silent.
        quantile: its slice, 0 for the weakest; SILENT for a window on which the latent does not fire.
        source: how it was chosen.
        token_vals: the magnitude of the latent on each token.
        start: the position of its first token in its sequence.

    Example:
        >>> one = Example((5, 6, 7), ("a", " cat", " sat"), (0.0, 2.0, 0.5), 9, FIRES)
        >>> one.text, one.marked(one.firing())
        ('a cat sat', 'a<< cat>> sat')
    """

    tokens: tuple[int, ...]
    cells: tuple[str, ...]
    vals: tuple[float, ...]
    quantile: int
    source: str
    token_vals: tuple[float, ...] = ()
    start: int = 0

    @property
    def fires(self) -> bool:
        """Whether the latent fires in it."""
        return self.quantile != SILENT

    @property
    def text(self) -> str:
        """The text in one line."""
        return _line("".join(self.cells))

    def firing(self, share: float = 0.3) -> list[int]:
        """The cells with at least this share of the largest value of the window."""
        least = share * max(self.vals)
        return [i for i, val in enumerate(self.vals) if val > 0 and val >= least]

    def marked(self, at: Collection[int]) -> str:
        """The text in one line with `<<` and `>>` around these cells; marks that touch are one."""
        parts, inside = [], False
        for i, cell in enumerate(self.cells):
            if (i in at) != inside:
                parts.append(_CLOSE if inside else _OPEN)
                inside = not inside
            parts.append(cell)
        return _line("".join(parts) + _CLOSE * inside)


class Sample(NamedTuple):
    """The windows of one latent. train: for its explanation, the strongest first; contrast: silent ones for it.
    test, silent: for scores. largest: the largest magnitude of the latent.
    """

    train: list[Example]
    contrast: list[Example]
    test: list[Example]
    silent: list[Example]
    largest: float


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How windows are drawn.

    Args:
        protocol: "quantiles", as this file says, or "autointerp" (autointerp.py), which reads only the seed.
        length: the number of tokens of a window; sequences that are shorter are one window.
        n_train, n_contrast, n_test, n_silent: the number of windows of each kind.
        slices: the number of slices of the rank.
        train: "quantiles", the same number from each slice; "top", the strongest; "random"; or "mix", a fifth
            of them the strongest.
        silent: "random", or "neighbours", on which a latent fires that fires on the same tokens.
        overlap: whether train windows may be test windows too, as in delphi.
        fewest: a latent with fewer windows is left out.
        seed: of the draw, which is a function of (seed, latent).

    Raises:
        ValueError: for unknown words and for numbers out of range.

    Example:
        >>> Sampling(n_train=20).n_test
        50
    """

    protocol: str = "quantiles"
    length: int = 32
    n_train: int = 40
    n_contrast: int = 0
    n_test: int = 50
    n_silent: int = 50
    slices: int = 10
    train: str = "quantiles"
    silent: str = "random"
    overlap: bool = False
    fewest: int = 100
    seed: int = 22

    def __post_init__(self):
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be one of {', '.join(known)}."
                )
        for name in ("length", "n_train", "n_test", "slices", "fewest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")


def draw(
    found: Events, latent: int, texts: Texts, how: Sampling, near: Sequence[int] = ()
) -> Sample:
    """The windows of one latent.

    Args:
        found: the events.
        latent: the latent.
        texts: the text of tokens.
        how: how they are drawn.
        near: the latents like it, if silent windows are those of "neighbours".

    Returns:
        A sample; a latent with few windows has fewer examples, divided alike between train and test.
    """
    length = min(how.length, found.length)
    window_W, val_W = maxima(found, latent, length)
    random = np.random.default_rng((how.seed, latent))
    order_W = window_W[np.argsort(val_W, kind="stable")]
    parts = [random.permutation(one).tolist() for one in np.array_split(order_W, how.slices)]
    slice_of = {window: q for q, part in enumerate(parts) for window in part}
    pick = _Pick(found, length)
    test = pick.slices(parts, how.n_test, how.n_test / (how.n_test + how.n_train))
    free = _Pick(found, length) if how.overlap else pick
    train = _train(free, parts, order_W[::-1].tolist(), how, random)
    pool = _silent(found, window_W, length, near if how.silent == "neighbours" else None)
    quiet = pick.some(random.permutation(pool).tolist(), how.n_silent + how.n_contrast)
    rank = {window: i for i, window in enumerate(order_W.tolist())}
    read = _Reader(found, latent, texts, length)
    return Sample(
        [read(one, slice_of[one], FIRES) for one in sorted(train, key=rank.__getitem__)[::-1]],
        [read(one, SILENT, how.silent) for one in quiet[how.n_silent :]],
        [read(one, slice_of[one], FIRES) for one in test],
        [read(one, SILENT, how.silent) for one in quiet[: how.n_silent]],
        float(val_W.max(initial=0.0)),
    )


def _train(free: "_Pick", parts, strongest: list[int], how: Sampling, random) -> list[int]:
    """The train windows, from those that are free."""
    if how.train == "top":
        return free.some(strongest, how.n_train)
    if how.train == "random":
        return free.some(random.permutation(strongest).tolist(), how.n_train)
    n_top = math.ceil(_TOP_OF_MIX * how.n_train) if how.train == "mix" else 0
    return free.some(strongest, n_top) + free.slices(parts, how.n_train - n_top, 1.0)


class _Pick:
    """Takes windows once, and every text once."""

    def __init__(self, found: Events, length: int):
        self._tokens_WT, self._seen = found.tokens_ST.reshape(-1, length), set()

    def some(self, windows: Sequence[int], n: int) -> list[int]:
        """The first `n` that were not taken."""
        return list(itertools.islice(self._new(windows), n))

    def slices(self, parts: Sequence[list[int]], n: int, share: float) -> list[int]:
        """`n` over all slices, the strongest of which give one more, and from each at most that share."""
        each, more = divmod(n, len(parts))
        wanted = [each] * (len(parts) - more) + [each + 1] * more
        most = [min(m, int(len(part) * share)) for m, part in zip(wanted, parts, strict=True)]
        return [one for part, m in zip(parts, most, strict=True) for one in self.some(part, m)]

    def _new(self, windows: Sequence[int]) -> Iterator[int]:
        for window in windows:
            text = self._tokens_WT[window].tobytes()
            if text not in self._seen:
                self._seen.add(text)
                yield window


def _silent(found: Events, window_W, length: int, near: Sequence[int] | None) -> np.ndarray:
    """The windows that were read and on which the latent is silent; if `near`, on which one of these fires."""
    fit_W = np.asarray(found.mask_ST.reshape(-1, length).any(1))
    if near is not None:
        near_W = np.zeros(len(fit_W), bool)
        for other in near:
            near_W[maxima(found, other, length)[0]] = True
        fit_W &= near_W
    fit_W[window_W] = False
    return np.flatnonzero(fit_W)


class _Reader:
    """window -> its example."""

    def __init__(self, found: Events, latent: int, texts: Texts, length: int):
        self._found, self._latent, self._texts, self._length = found, latent, texts, length

    def __call__(self, window: int, quantile: int, source: str) -> Example:
        first = window * self._length
        own = slice(first, first + self._length)
        return example(self._found, self._latent, self._texts, own, quantile, source)


def example(
    found: Events, latent: int, texts: Texts, own: slice, quantile: int, source: str
) -> Example:
    """The example of the places of one window."""
    tokens = found.tokens_ST.reshape(-1)[own].tolist()
    place_E, val_E = found.within(latent, own)
    val_T = np.zeros(len(tokens), np.float64)
    val_T[place_E.astype(np.int64) - own.start] = np.abs(val_E)
    parts = texts(tokens)
    vals = tuple(float(val_T[members].max()) for _, members in parts)
    cells, start = tuple(text for text, _ in parts), own.start % found.length
    return Example(tuple(tokens), cells, vals, quantile, source, tuple(val_T.tolist()), start)


def _line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")
