"""SAEBench's protocol: its windows, the request for an explanation, and how its reply is read.

Windows have ten tokens before and after a peak, and do not overlap. Of the 12 largest peaks 10 explain and 2
test. Of 7 peaks below them, drawn with a probability that grows with the square of the activation, 5 explain
and 2 test. 10 random windows test too, and SAEBench assumes that the latent is silent there. The scorer is
`scorers/autointerp.py`.

Source: SAEBench (code 8042bb3), its AutoInterp evaluation; Karvonen et al. 2025 (arXiv:2503.09532).
Differs: our own prompt; random windows have their true labels beside the assumed ones.
"""

from collections.abc import Iterable

import numpy as np

from dictlearn.events import Events
from dictlearn.explanations.client import CHAT, Request
from dictlearn.explanations.samples import FIRES, SILENT, Example, Sample, Sampling, Texts, example
from dictlearn.explanations.templates import Prompt, load

NAME = "autointerp"
BUFFER, TOP, WEIGHTED, RANDOM = 10, (10, 2), (5, 2), 10
"""Tokens on each side of a peak; windows that explain and that test; random windows."""
_MARKED = 0.01
_MARKER = "activates on"
_CANDIDATES = 50


def draw(found: Events, latent: int, texts: Texts, how: Sampling) -> Sample:
    """The windows of one latent.

    Args:
        found: the events.
        latent: the latent.
        texts: the text of tokens.
        how: its seed; nothing else is read.

    Returns:
        A sample. Where too few peaks are apart, it has fewer windows; without one below the largest, none test.
    """
    random, taken = np.random.default_rng((how.seed, latent)), _Apart(found)
    place_E, val_E = found.of(latent)
    size_E = np.abs(val_E).astype(np.float64)
    order_E = np.argsort(-size_E, kind="stable")
    top = taken.some(place_E[order_E].tolist(), sum(TOP))
    least = size_E[np.isin(place_E, top)].min(initial=np.inf)
    below = np.flatnonzero(size_E < least)
    weight = size_E[below] ** 2 / (size_E[below] ** 2).sum() if len(below) else None
    drawn = random.choice(below, min(len(below), _CANDIDATES), replace=False, p=weight)
    weighted = taken.some(place_E[drawn].tolist(), sum(WEIGHTED))
    others = random.permutation(np.flatnonzero(found.mask_ST.reshape(-1)))[: 100 * _CANDIDATES]
    quiet = taken.some(others.tolist(), RANDOM)
    window = lambda place, source: _window(found, latent, texts, place, source)
    top, weighted = ([window(p, FIRES) for p in places] for places in (top, weighted))
    train = sorted(top[: TOP[0]] + weighted[: WEIGHTED[0]], key=lambda one: -max(one.vals))
    test = top[TOP[0] :] + weighted[WEIGHTED[0] :] if weighted else []
    silent = [window(place, "random") for place in quiet]
    return Sample(train, [], test, silent, float(size_E.max(initial=0.0)))


def prompt() -> Prompt:
    """The prompt of explanations.

    Returns:
        The newest version.
    """
    return load("autointerp_explain")


def request(sample: Sample, seed: int) -> Request:
    """The request for an explanation: numbered windows, the strongest first, with marks.

    Args:
        sample: the windows of a latent.
        seed: of the reply.

    Returns:
        A request.
    """
    least = _MARKED * sample.largest
    marked = (
        one.marked([i for i, val in enumerate(one.vals) if val > least]) for one in sample.train
    )
    listed = "\n".join(f"{i}. {text}" for i, text in enumerate(marked, 1))
    messages = prompt().fill(examples=listed)
    return Request(CHAT, messages, max_tokens=30, seed=seed)


def parsed(reply: str) -> str | None:
    """The explanation in a reply.

    Args:
        reply: the text of the reply.

    Returns:
        The text after "activates on"; None without it.

    Example:
        >>> parsed("This latent activates on days of the week."), parsed("days")
        ('days of the week', None)
    """
    _, marker, said = reply.partition(_MARKER)
    return " ".join(said.split()).rstrip(".") or None if marker else None


def _window(found: Events, latent: int, texts: Texts, place: int, source: str) -> Example:
    own = slice(place - BUFFER, place + BUFFER + 1)
    return example(found, latent, texts, own, 0 if source == FIRES else SILENT, source)


class _Apart:
    """Takes places whose windows lie within a sequence and do not overlap with those that were taken."""

    def __init__(self, found: Events):
        self._length, self._taken = found.length, []

    def some(self, places: Iterable[int], n: int) -> list[int]:
        """The first `n` that fit."""
        found = []
        for place in places:
            if len(found) == n:
                break
            if self._fits(place):
                found.append(place)
                self._taken.append(place)
        return found

    def _fits(self, place: int) -> bool:
        within = BUFFER <= place % self._length < self._length - BUFFER
        return within and all(abs(place - other) > 2 * BUFFER for other in self._taken)
