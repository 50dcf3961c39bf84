"""SHIFT: a classifier that learnt a spurious attribute is mended by taking out the latents that carry it.

    ambiguous    class a always with value u, class b with value v: the classifier cannot tell class from value
    listed       the latents whose effect on the classifier is above a share of its mean absolute logit
    shift        the same classifier without the listed latents that a judge calls spurious
    retrained    another classifier, fitted to the ambiguous documents without them
    bottleneck   a classifier of the codes of the listed latents that are left
    skyline      the original classifier without as many latents, of largest effect on a probe of the value
    oracle       a classifier fitted to documents in which class and value are independent

Each is measured on documents in which they are independent: how often it tells the class (intended), how
often the value (spurious; 0.5 is chance), and how often the class in the worst of the four groups. The judge is
a file of latents to take out, {tap: [latent, ...]}, written by a person who has seen what is listed. Or it is
"labels": a listed latent is spurious if its mean differs more between the values than between the classes of
balanced documents.

Source: Marks et al. 2024, "Sparse feature circuits" (arXiv:2403.19647), section 4; code of 1d87366.
Differs: classifiers are logistic regressions at their optimum (analyses/_probing.py), where the paper trains
one epoch of AdamW; so the threshold is a share. Its bottleneck uses words that a person lists as concepts.
Integrated gradients take middles.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dictlearn import lm as language
from dictlearn import tasks as room
from dictlearn.analyses import _asked, _documents, scr
from dictlearn.analyses._ablated import Basis
from dictlearn.analyses._probing import linear
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._shift import Latents, Texts
from dictlearn.analyses._subject import Subject
from dictlearn.experiment.stream import origin
from dictlearn.lm import LM
from dictlearn.ops.sparse_probes.logistic import Probe
from dictlearn.runs.trained import Site, Trained, place
from dictlearn.tasks import Drawn, Question

NEEDS = ("model", "origin")
LABELS = "labels"
"""The judge that reads the labels of balanced documents."""
METHODS = ("original", "shift", "retrained", "bottleneck", "skyline", "oracle")
_NAMES = ("intended", "spurious", "worst_group")


class Listed(NamedTuple):
    """A latent with a large effect on the classifier, a share of its mean absolute logit. between_classes,
    between_values: how much higher its mean is on one side of balanced documents. spurious: by the judge."""

    tap: str
    latent: int
    effect: float
    between_classes: float
    between_values: float
    spurious: bool


class Found(NamedTuple):
    """listed: the latents, the largest effect first. taken_out: the latents that SHIFT takes out. accuracies:
    {method: {name: value}}; no bottleneck where no listed latent is left."""

    listed: list[Listed]
    taken_out: dict[str, list[int]]
    accuracies: dict[str, dict[str, float]]


def shift(
    subjects: Sequence[Subject],
    *,
    task: str = "wiki_topics",
    pair: Sequence[str] = ("Arts", "History"),
    attribute: str = "",
    values: Sequence[str] = (),
    given: Mapping[str, Any] = {},
    judge: str = LABELS,
    threshold: float = 0.01,
    most: int = 100,
    together: bool = False,
    read: str = "",
    n_train: int = 640,
    n_test: int = 160,
    n_effects: int = 100,
    context: int = 64,
    seed: int = 0,
    model: str = "",
) -> Result:
    """The accuracies of every dictionary, and what is listed for a judge.

    Args:
        subjects: runs on a language model's activations, or dictionaries with `model`.
        task, given: a task, or the path of a file of labelled texts; its settings.
        pair: the two classes; the first comes with the first value.
        attribute, values: the attribute, without which it is the only one; its two values likewise.
        judge: "labels", or the path of a JSON file {tap: [latents to take out]}.
        threshold, most: the effect from which on latents are listed, as a share; at most so many.
        together: whether the dictionaries, each of another tap, are taken as one set. Otherwise each is alone.
        read: the tap that the classifier reads; empty for the one that the dictionary writes.
        n_train, n_test: documents of all four groups together; fewer where one is small.
        n_effects: ambiguous documents of which the effects are a mean.
        context: tokens of a document.
        seed: of the documents.
        model: the language model of dictionaries without a run.

    Returns:
        A Result with a row for each dictionary, or for the set, and method.

    Raises:
        ValueError: for a subject without a model, an attribute without two values, a file that is no list of
            latents, several dictionaries together without `read`, and settings out of bounds.
    """
    if threshold < 0 or min(most, n_effects) < 1:
        raise ValueError(f"{threshold=} must be at least 0, {most=} and {n_effects=} at least 1.")
    lm = language.load(model) if model else subjects[0].lm
    data = _asked.Data(task, n_train, n_test, context, seed, model, "")
    more = {"attribute": attribute, "values": values}
    named = {key: value for key, value in more.items() if value}
    made = room.make(task, lm.tokenizer, **given)
    drawn = scr.crossed(made, (str(pair[0]), str(pair[1])), named, data)
    how = How(threshold, most, n_effects, seed, _judged(judge))
    records = []
    for own in _sets(subjects, together):
        found = _of_set(lm, own, read, drawn, context, how)
        records.append({"dictionaries": [one.name for one in own], **found._asdict()})
    counts = dict(zip(drawn.classes, np.bincount(drawn.class_S).tolist(), strict=True))
    told = {"task": task, "pair": list(pair), "judge": judge, "documents": counts}
    return Result({**told, "sets": records}, [_table(records)])


class How(NamedTuple):
    """How latents are listed and judged. judged: latents to take out; None for the labels."""

    threshold: float
    most: int
    n_effects: int
    seed: int
    judged: Latents | None


def _judged(judge: str) -> Latents | None:
    """The latents of a judge's file."""
    if judge == LABELS:
        return None
    found = json.loads(Path(judge).read_text("utf-8"))
    whole = lambda latents: isinstance(latents, list) and all(type(i) is int for i in latents)
    if not isinstance(found, dict) or not all(map(whole, found.values())):
        raise ValueError(f"{judge} must be JSON {{tap: [latent, ...]}}.")
    return found


def _sets(subjects: Sequence[Subject], together: bool) -> list[list[Trained]]:
    whole = [_sited(subject, one) for subject in subjects for one in subject.trained]
    return [whole] if together else [[one] for one in whole]


def _sited(subject: Subject, one: Trained) -> Trained:
    """A dictionary that knows its taps."""
    if one.sites:
        return one
    return dataclasses.replace(one, sites=tuple(map(Site.at, origin(subject.config) or ())))


def _of_set(
    lm: LM, own: Sequence[Trained], read: str, drawn: Drawn, context: int, how: How
) -> Found:
    if not read and len(own) > 1:
        taps = [place(one)[1] for one in own]
        raise ValueError(f"Dictionaries write {taps}; name the tap of the classifier by read.")
    documents = _documents.tokens(lm, drawn.text, context)
    texts = Texts(lm, own, read or place(own[0])[1], documents)
    return score(texts, drawn, how)


def score(texts: Texts, drawn: Drawn, how: How) -> Found:
    """SHIFT and its baselines on the documents of `scr.crossed`.

    Args:
        texts, drawn: the documents, in the model with its dictionaries, and their groups.
        how: how latents are listed and judged.

    Returns:
        Found.
    """
    x_SD, codes = texts.without({}), texts.codes()
    one, groups = scr.bias(x_SD, drawn, how.seed), room.split(drawn, how.seed)
    ambiguous = np.concatenate([train_S for train_S, _ in (groups[0], groups[3])])
    biased = Question("biased", ambiguous, np.empty(0, int))
    size = float(np.abs(x_SD[ambiguous] @ one.probe.w_D + one.probe.b).mean())
    listed = _listed(texts, codes, biased, one, how, size)
    removed = _removed(listed, how.judged)
    left_SD = texts.without(removed)
    skyline = _strongest(_effects(texts, one.concepts[1], one.clean[1], how), removed)
    by = lambda row_SD, probe: accuracies(row_SD, probe, [test_S for _, test_S in groups])
    found = {
        "original": by(x_SD, one.probe),
        "shift": by(left_SD, one.probe),
        "retrained": by(left_SD, linear(left_SD, biased)),
        "skyline": by(texts.without(skyline), one.probe),
        "oracle": by(x_SD, one.clean[0]),
    }
    if kept := [codes[own.tap][:, own.latent] for own in listed if not own.spurious]:
        code_SF = np.stack(kept, axis=1)
        found["bottleneck"] = by(code_SF, linear(code_SF, biased))
    return Found(listed, removed, found)


def accuracies(row_SD: np.ndarray, probe: Probe, tests: Sequence[np.ndarray]) -> dict[str, float]:
    """How often a classifier is right about the class, about the value, and in the worst group.

    Args:
        row_SD: the rows of all documents.
        probe: the classifier, positive for the first class.
        tests: the test documents of the groups a u, a v, b u, b v.

    Returns:
        {"intended", "spurious", "worst_group"}; groups count equally.
    """
    share = [float((row_SD[own] @ probe.w_D + probe.b > 0).mean()) for own in tests]
    right = [share[0], share[1], 1 - share[2], 1 - share[3]]
    value = [share[0], 1 - share[1], share[2], 1 - share[3]]
    found = (np.mean(right), np.mean(value), min(right))
    return dict(zip(_NAMES, map(float, found), strict=True))


def _effects(texts: Texts, asked: Question, probe: Probe, how: How) -> dict[str, np.ndarray]:
    """The effects on a probe, over train documents of both of its classes."""
    positive_S = asked.positive(asked.train_S)
    half = max(1, how.n_effects // 2)
    some = np.concatenate([np.flatnonzero(side)[:half] for side in (positive_S, ~positive_S)])
    return texts.effects(asked.train_S[some], positive_S[some], probe)


def _strongest(effects: Mapping[str, np.ndarray], removed: Latents) -> dict[str, list[int]]:
    """The latents of largest effect, as many as are taken out."""
    n = sum(map(len, removed.values()))
    best = sorted(_pairs(effects), key=lambda pair: -abs(effects[pair[0]][pair[1]]))[:n]
    return {tap: [i for at, i in best if at == tap] for tap in effects}


def _pairs(effects: Mapping[str, np.ndarray]) -> list[tuple[str, int]]:
    return [(tap, i) for tap, own in effects.items() for i in np.flatnonzero(own).tolist()]


def _listed(
    texts: Texts,
    codes: Mapping[str, np.ndarray],
    biased: Question,
    one: scr.Bias,
    how: How,
    size: float,
) -> list[Listed]:
    """size: the mean absolute logit."""
    found_F = _effects(texts, biased, one.probe, how)
    effects = {tap: effect_F / size for tap, effect_F in found_F.items()}
    apart = {
        tap: [Basis(code_SF, np.empty((0, 0))).apart(concept) for concept in one.concepts]
        for tap, code_SF in codes.items()
    }
    pairs = [(tap, i) for tap, i in _pairs(effects) if abs(effects[tap][i]) > how.threshold]
    pairs = sorted(pairs, key=lambda pair: -abs(effects[pair[0]][pair[1]]))[: how.most]
    found = []
    for tap, i in pairs:
        classes, values = (float(own_F[i]) for own_F in apart[tap])
        spurious = abs(values) > abs(classes)
        if how.judged is not None:
            spurious = i in how.judged.get(tap, ())
        found.append(Listed(tap, i, float(effects[tap][i]), classes, values, spurious))
    return found


def _removed(listed: Sequence[Listed], judged: Latents | None) -> dict[str, list[int]]:
    """The latents that are taken out: all of the judge's file, or those that the labels call spurious."""
    if judged is not None:
        return {tap: sorted(own) for tap, own in judged.items()}
    found: dict[str, list[int]] = {}
    for one in listed:
        if one.spurious:
            found.setdefault(one.tap, []).append(one.latent)
    return found


def _table(records: Sequence[Mapping[str, Any]]) -> Table:
    heads = ("dictionary", "method", "intended", "spurious", "worst group", "taken out")
    rows = []
    for record in records:
        n = sum(map(len, record["taken_out"].values()))
        name = ", ".join(sorted(record["dictionaries"]))
        for method in METHODS:
            if method in record["accuracies"]:
                cells = [round(record["accuracies"][method][key], 4) for key in _NAMES]
                out = n if method in ("shift", "retrained", "skyline") else 0
                rows.append((name, method, *cells, out))
    return Table("SHIFT", heads, rows)
