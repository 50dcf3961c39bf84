"""Targeted probe perturbation: whether a class has latents of its own (SAEBench).

    effect of latent i on a class    max(0, its mean on the class - on the others) (w W_dec,i)
    A_{j|i}    accuracy of the probe of class j once the n latents of largest effect on class i are taken out
    score      mean over i of (A_i - A_{i|i}) - mean over j of (A_j - A_{j|i})        j another class

w is a linear probe of the activation, fitted once. Taking latents out subtracts f_i W_dec,i from every token
and leaves the dictionary's error. The probe reads the mean over tokens, so the means of documents are enough.

Source: SAEBench 8042bb3, whose keys the values have.
Differs: analyses/_probing.py (the probe) and tasks/_draw.py. SAEBench chooses the probe's epoch on the test
documents.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from dictlearn.analyses import _ablated, _asked
from dictlearn.analyses._ablated import Basis, Scores
from dictlearn.analyses._probing import LLM, linear, right
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject
from dictlearn.ops.sparse_probes.logistic import Probe
from dictlearn.tasks import Question, questions

NEEDS = ("model", "origin")
_PARTS = ("total_metric", "intended_diff_only", "unintended_diff_only")


def tpp(
    subjects: Sequence[Subject],
    *,
    tasks: str | Sequence[str] | Mapping[str, Mapping[str, Any]] = {"wiki_topics": {"classes": 5}},
    ns: Sequence[int] = (2, 5, 10, 20, 50, 100, 500),
    n_train: int = 640,
    n_test: int = 160,
    splits: int = 3,
    context: int = 128,
    seed: int = 0,
    model: str = "",
    tap: str = "",
) -> Result:
    """The score of every dictionary, and of the baselines.

    Args:
        subjects: one run on a language model's activations, or dictionaries with `model`.
        tasks, n_train, n_test, splits, context, seed, model, tap: as in `sparse_probing`. A task has at least
            three classes: the probes of two read the same evidence.
        ns: the numbers of latents that are taken out.

    Returns:
        A Result with SAEBench's record of each dictionary, and a row for each setting with the half width of
        its 95 % interval over dictionary seeds and splits.

    Raises:
        ValueError: for a subject without a model, an unknown task, and settings out of bounds.
    """
    _ablated.check(ns, splits)
    data = _asked.Data(tasks, n_train, n_test, context, seed, model, tap)
    opened = _asked.opened(subjects, "tpp", data)
    found = {
        name: _of_task(opened.subject, one, ns, splits, seed) for name, one in opened.asked.items()
    }
    keys = [f"tpp_threshold_{n}_{part}" for n in ns for part in _PARTS]
    rows, records = _ablated.values("tpp", opened, found, keys)
    given = opened.values("tpp", data, ns=ns, splits=splits)
    heads = {f"tpp_threshold_{n}_{_PARTS[0]}": f"n {n}" for n in ns}
    table = _asked.table("Targeted probe perturbation", rows, heads)
    return Result({**given, "dictionaries": records, "settings": rows}, [table])


def _of_task(
    subject: Subject, asked: _asked.Asked, ns: Sequence[int], splits: int, seed: int
) -> Scores:
    """The scores of all dictionaries and baselines on a task."""
    if len(asked.drawn.classes) < 3:
        raise ValueError(
            f"the task has the classes {asked.drawn.classes}; at least three are needed."
        )
    found: Scores = {}
    trained, x_SD = _ablated.dictionaries(subject, asked), asked.rows[LLM, ""]
    for n in range(splits):
        each = questions(asked.drawn, seed + n)
        probes = [linear(x_SD, one) for one in each]
        others = _ablated.directions(asked, each)
        bases = trained | {at: one.mirrored() for at, one in others.items()}
        for at, basis in bases.items():
            found.setdefault(at, []).append(score(x_SD, basis, each, probes, ns))
    return found


def score(
    x_SD: Float[np.ndarray, "S D"],
    basis: Basis,
    asked: Sequence[Question],
    probes: Sequence[Probe],
    ns: Sequence[int],
) -> dict[str, float]:
    """The scores of a dictionary in one split.

    Args:
        x_SD: the means of the documents.
        basis: their codes, and what a unit of each latent adds to the activation.
        asked, probes: the question of each class, and its probe.
        ns: the numbers of latents that are taken out.

    Returns:
        {SAEBench's key: value}.
    """
    logit = lambda row_SD, j: row_SD[asked[j].test_S] @ probes[j].w_D + probes[j].b
    accuracy = lambda row_SD, j: right(logit(row_SD, j), asked[j])
    before = np.array([accuracy(x_SD, j) for j in range(len(asked))])
    effects = [
        np.maximum(basis.apart(one), 0) * (basis.atoms_FD @ probe.w_D)
        for one, probe in zip(asked, probes, strict=True)
    ]
    found = {}
    for n in ns:
        rows = [basis.without(x_SD, _ablated.largest(effect_F, n)) for effect_F in effects]
        after = [[accuracy(row_SD, j) for j in range(len(asked))] for row_SD in rows]
        values = zip(_PARTS, falls(before, np.array(after)), strict=True)
        found |= {f"tpp_threshold_{n}_{part}": value for part, value in values}
    return found


def falls(
    before_C: Float[np.ndarray, " C"], after_CC: Float[np.ndarray, "C C"]
) -> tuple[float, float, float]:
    """How far accuracies fall.

    Args:
        before_C: the accuracy of each probe.
        after_CC: the same after the latents of each class are taken out, a row for each class.

    Returns:
        (score, the mean fall of a class's own probe, the mean fall of another's).
    """
    fall_CC = before_C - after_CC
    own = float(fall_CC.diagonal().mean())
    other = float(fall_CC[~np.eye(len(before_C), dtype=bool)].mean())
    return own - other, own, other
