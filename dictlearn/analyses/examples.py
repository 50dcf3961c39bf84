"""Examples of latents: where they fire in a store's training tokens, and their direct effect on the logits.

One pass encodes the rows of the store's first sequences, at most N_TOKENS, and keeps every active code.
Documents of a store are in random order, so its first sequences are a random sample.

Choice: candidates fired on at least FEWEST tokens, and on a share of at most DENSEST. Ordered by density they
are cut into groups of equal size. Each group gives the latent whose top passages stand out most: the weakest of
their peaks, over the latent's mean activation where it fires. A latent that peaks on the same token as one
already chosen is replaced by the next of its group.

Logits: the direct effect of the decoder row of latent i (_logits.py), in units of the normalised activations.

Axes: E an active code, I a chosen latent, P a passage; the others as in `dictlearn.types`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictlearn import events
from dictlearn import lm as language
from dictlearn.analyses import _logits
from dictlearn.analyses._passages import Passage, documents, passage
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.events import Events
from dictlearn.runs.trained import Trained
from dictlearn.streams import _taps, store

NEEDS = ("model", "store")

N_TOKENS = 200_000
N_ACTIVE = 16_000_000
"""Tokens encoded and active codes kept, at most; the codes of 16 million take 256 MB."""

FEWEST, DENSEST = 20, 0.05
PASSAGES, LOGITS = 8, 10


class Logits(NamedTuple):
    """The tokens whose logits a latent raises and lowers most, with weights, the most extreme first."""

    top: list[tuple[str, float]]
    bottom: list[tuple[str, float]]


class Latent(NamedTuple):
    """One latent. n_fired: the number of tokens on which it fired. density: their share of all tokens.
    largest: its largest activation. logits: None for a tap that does not write to the residual stream.
    """

    index: int
    n_fired: int
    density: float
    largest: float
    passages: list[Passage]
    logits: Logits | None


class Study(NamedTuple):
    """The chosen latents, from rarest to densest, and the sample that they were chosen from."""

    name: str
    tap: str
    latents: list[Latent]
    n_tokens: int
    n_sequences: int
    n_candidates: int
    n_latents: int


def examples(subjects: Sequence[Subject], *, dictionary: str = "", n: int = 12) -> Result:
    """Latents of one dictionary with their top passages and their direct logits.

    Args:
        subjects: one run on a store, with a language model.
        dictionary: its name; empty for the one with the largest explained variance.
        n: the number of latents, from rare to dense; fewer if not enough of them fire often.

    Returns:
        A Result with the fields of `Study`.

    Raises:
        ValueError: for an unknown dictionary; the message lists the known ones.
    """
    (subject,) = exactly(1, subjects, "examples")
    best = chosen(subject, dictionary)
    subject.check_data()
    seen = study(best, subject.lm, subject.config["stream"], n)
    rows = [
        (latent.index, latent.density, latent.largest, _peaks(latent)) for latent in seen.latents
    ]
    columns = ("latent", "density", "largest activation", "peaks on")
    return Result(seen._asdict(), [Table(f"Latents of {best.name}", columns, rows)])


def chosen(subject: Subject, name: str = "") -> Trained:
    """The dictionary of that name; without a name, the one with the largest explained variance.

    Raises ValueError, listing the names, for an unknown one.
    """
    found = {one.name: one for one in subject.trained}
    if name and name not in found:
        raise ValueError(f"{name!r} is not a dictionary of {subject.name}: {', '.join(found)}.")
    return found[name or max(found, key=lambda one: _explained(found[one]))]


def _explained(dictionary: Trained) -> float:
    value = dictionary.metrics.get("explained_variance")
    return -np.inf if value is None else value


def _peaks(latent: "Latent") -> str:
    """The tokens at the peaks of its passages, the most frequent first."""
    words = Counter(passage.cells[passage.peak].text for passage in latent.passages)
    return ", ".join(f"{word!r} × {count}" for word, count in words.most_common(3))


def study(
    dictionary: Trained,
    lm: language.LM,
    stream: Mapping[str, Any],
    n: int = 12,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """At most `n` latents of `dictionary` with their passages; fewer if there are fewer candidates.

    stream: arguments of a store's stream. progress: called with (tokens read, tokens in total).
    """
    taps = store.open_manifest(stream["path"])["recipe"]["taps"]
    tap = _taps.chosen(list(taps), stream.get("tap"))
    target = _taps.chosen(list(taps), stream["target"]) if stream.get("target") else tap
    tokens_ST, _ = store.tokens(stream["path"], "train")
    lm.check_tokens(tokens_ST, f"The text of {stream['path']}")
    found = firings(dictionary, stream["path"], tap, progress)
    document_ST = documents(tokens_ST, lm.separator)
    fit = candidates(found)
    shown = choose(found, tokens_ST, document_ST, fit, n)
    logits = direct_logits(dictionary, lm, target, shown)
    latents = [
        _latent(i, found, tokens_ST, document_ST, lm, one)
        for i, one in zip(shown, logits, strict=True)
    ]
    n_latents = dictionary.module.n_latents
    counts = found.n_tokens, len(found.tokens_ST), len(fit), n_latents
    return Study(dictionary.name, ", ".join(target), latents, *counts)


def firings(dictionary: Trained, path, tap: Sequence[str], progress=None) -> Events:
    """Every active code on the first sequences that hold N_TOKENS tokens, or about N_ACTIVE active codes by the
    dictionary's L0.
    """
    l0 = dictionary.metrics.get("l0") or 1.0
    rows = events.of_store(path, tap, min(N_TOKENS, int(N_ACTIVE / max(l0, 1.0))))
    return events.gather(events.job(dictionary, rows, progress or (lambda done, total: None)))


def candidates(found: Events) -> np.ndarray:
    """Latents that are neither too rare nor too dense, in order of density."""
    fired_F = found.count_F
    fit = np.flatnonzero((fired_F >= FEWEST) & (fired_F <= DENSEST * found.n_tokens))
    return fit[np.argsort(fired_F[fit], kind="stable")]


def choose(
    found: Events, tokens_ST: np.ndarray, document_ST: np.ndarray, candidates: np.ndarray, n: int
) -> list[int]:
    """The latents to show, by the rule in the head of this file."""
    chosen, peaks = [], set()
    for group in np.array_split(candidates, n):
        tops = {i: top(found, document_ST, i) for i in group.tolist()}
        standing = {i: _standing(found, i, val_P) for i, (_, val_P) in tops.items()}
        for i in sorted(standing, key=standing.__getitem__, reverse=True):
            peak = int(tokens_ST.flat[tops[i][0][0]])
            if peak not in peaks:
                chosen.append(i)
                peaks.add(peak)
                break
    return chosen


def top(found: Events, document_ST: np.ndarray, latent: int) -> tuple[np.ndarray, np.ndarray]:
    """(place_P, val_P) of the PASSAGES largest activations, at most one a document, the largest first."""
    place_E, val_E = found.of(latent)
    order_E = np.argsort(-val_E, kind="stable")
    _, first = np.unique(document_ST.ravel()[place_E[order_E]], return_index=True)
    chosen_P = order_E[np.sort(first)[:PASSAGES]]
    return place_E[chosen_P], val_E[chosen_P]


def _standing(found: Events, latent: int, val_P: np.ndarray) -> float:
    """How far the top passages stand out; 0 for fewer than PASSAGES."""
    return float(val_P[-1] / found.of(latent)[1].mean()) if len(val_P) == PASSAGES else 0.0


def direct_logits(
    dictionary: Trained, lm: language.LM, target: Sequence[str], chosen: list[int]
) -> list[Logits | None]:
    """The extreme tokens of each latent's direct effect on the logits (_logits.py); None where that is not
    known.
    """
    written_ID = _logits.of_latents(dictionary, lm, target, chosen)
    if written_ID is None or not chosen:
        return [None] * len(chosen)
    found = _logits.direct(lm, written_ID, LOGITS)
    named = lambda tokens, weights: _logits.named(lm, tokens, weights)
    return [Logits(named(t, tw), named(b, bw)) for t, tw, b, bw, _ in zip(*found, strict=True)]


def _latent(index: int, found: Events, tokens_ST, document_ST, lm, logits) -> Latent:
    place_E, val_E = found.of(index)
    val_ST = np.zeros(tokens_ST.shape, np.float32)
    val_ST.flat[place_E] = val_E
    passages = []
    for place in top(found, document_ST, index)[0].tolist():
        at = divmod(place, found.length)
        passages.append(passage(lm.tokenizer, tokens_ST, val_ST, document_ST, at))
    density, largest = float(found.density_F[index]), float(found.largest_F[index])
    return Latent(index, len(val_E), density, largest, passages, logits)
