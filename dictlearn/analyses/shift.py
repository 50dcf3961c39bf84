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
balanced documents. Means have 95 % intervals over splits of the documents and dictionaries of several seeds.

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
from dictlearn.analyses import _asked, _documents, _listed, scr
from dictlearn.analyses._listed import How, Listed
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
    splits: int = 3,
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
        n_train, n_test: each of the four groups has half as many documents; fewer where one is small.
        n_effects: ambiguous documents of which the effects are a mean.
        splits: how many times the documents are split into those to train and those to test.
        context: tokens of a document.
        seed: of the documents, and the first one of the splits.
        model: the language model of dictionaries without a run.

    Returns:
        A Result with a row for each setting of dictionaries, or for the set, and method.

    Raises:
        ValueError: for a subject without a model, an attribute without two values, a file that is no list of
            latents, several dictionaries together without `read`, and settings out of bounds.
    """
    if threshold < 0 or min(most, n_effects, splits) < 1:
        raise ValueError(
            f"{threshold=} must be at least 0, {most=}, {n_effects=} and {splits=} at least 1."
        )
    lm = language.load(model) if model else subjects[0].lm
    data = _asked.Data(task, n_train, n_test, context, seed, model, "")
    more = {"attribute": attribute, "values": values}
    named = {key: value for key, value in more.items() if value}
    made = room.make(task, lm.tokenizer, **given)
    drawn = scr.crossed(made, (str(pair[0]), str(pair[1])), named, data)
    how = How(threshold, most, n_effects, seed, _judged(judge))
    records = []
    for own in _sets(subjects, together):
        texts = _read(lm, own, read, drawn, context)
        found = [score(texts, drawn, how._replace(seed=n)) for n in range(seed, seed + splits)]
        records.append({"dictionaries": [one.name for one in own], "splits": found})
    counts = dict(zip(drawn.classes, np.bincount(drawn.class_S).tolist(), strict=True))
    told = {"task": task, "pair": list(pair), "judge": judge, "documents": counts}
    return Result({**told, "sets": records}, [_table(subjects, records)])


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


def _read(lm: LM, own: Sequence[Trained], read: str, drawn: Drawn, context: int) -> Texts:
    """The documents in the model with a set of dictionaries."""
    if not read and len(own) > 1:
        taps = [place(one)[1] for one in own]
        raise ValueError(f"Dictionaries write {taps}; name the tap of the classifier by read.")
    documents = _documents.tokens(lm, drawn.text, context)
    return Texts(lm, own, read or place(own[0])[1], documents)


def score(texts: Texts, drawn: Drawn, how: How) -> Found:
    """SHIFT and its baselines on the documents of `scr.crossed`.

    Args:
        texts, drawn, how: the documents, in the model with its dictionaries; their groups; the judge.

    Returns:
        Found.
    """
    x_SD, codes = texts.whole
    one, groups = scr.bias(x_SD, drawn, how.seed), room.split(drawn, how.seed)
    ambiguous = np.concatenate([train_S for train_S, _ in (groups[0], groups[3])])
    biased = Question("biased", ambiguous, np.empty(0, int))
    size = float(np.abs(x_SD[ambiguous] @ one.probe.w_D + one.probe.b).mean())
    listed = _listed.listed(texts, codes, biased, one, how, size)
    removed = _listed.removed(listed, how.judged)
    left_SD = texts.without(removed)
    by_value = _listed.effects(texts, one.concepts[1], one.clean[1], how)
    skyline = _listed.strongest(by_value, sum(map(len, removed.values())))
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


def _table(subjects: Sequence[Subject], records: Sequence[Mapping[str, Any]]) -> Table:
    """The means over the splits of all sets whose dictionaries have the same settings."""
    of = [each for subject in subjects for each in _asked.settings(subject)]
    words = {name: told for _, told, names in of for name in names}
    pooled: dict[str, list[Found]] = {}
    for record in records:
        name = "; ".join(sorted(words[one] for one in record["dictionaries"]))
        pooled.setdefault(name, []).extend(record["splits"])
    heads = [name.replace("_", " ") for name in _NAMES]
    ends = [cell for head in heads for cell in (head, f"{head} \u00b1")]
    rows = [
        _row(name, method, own)
        for name, found in pooled.items()
        for method in METHODS
        if (own := [one for one in found if method in one.accuracies])
    ]
    return Table("SHIFT", ("dictionary", "method", *ends, "taken out", "runs"), rows)


def _row(name: str, method: str, found: Sequence[Found]) -> tuple[Any, ...]:
    means = [_asked.interval([one.accuracies[method][key] for one in found]) for key in _NAMES]
    out = [sum(map(len, one.taken_out.values())) for one in found]
    n = float(np.mean(out)) if method in ("shift", "retrained", "skyline") else 0
    return (name, method, *(cell for pair in means for cell in pair), n, len(found))
