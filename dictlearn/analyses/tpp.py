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

from dictlearn.analyses import _asked, _documents
from dictlearn.analyses._probing import LLM, RANDOM, SAE, Key, linear, right
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.ops.sparse_probes.logistic import Probe
from dictlearn.ops.sparse_probes.sweeps import best
from dictlearn.tasks import Question, questions

NEEDS = ("model", "origin")
_PARTS = ("total_metric", "intended_diff_only", "unintended_diff_only")
Scores = dict[Key, dict[str, list[float]]]
"""{(kind, dictionary): {key: the value in each split}}."""


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
    """The score of every dictionary, and of a random one beside it.

    Args:
        subjects: one run on a language model's activations, or dictionaries with `model`.
        tasks, n_train, n_test, splits, context, seed, model, tap: as in `sparse_probing`. A task has at least
            three classes: the probes of two read the same evidence.
        ns: the numbers of latents that are taken out.

    Returns:
        A Result with the score of each dictionary, and a row for each setting with the half width of its 95 %
        interval over dictionary seeds and splits.

    Raises:
        ValueError: for a subject without a model, an unknown task, and settings out of bounds.
    """
    (subject,) = exactly(1, subjects, "tpp")
    if not ns or min(ns) < 1 or splits < 1:
        raise ValueError(f"{ns=} must be numbers of latents, and {splits=} at least 1.")
    lm, taps = _documents.site(subject, model, tap)
    given = _asked.named(tasks)
    drawn = lambda name: _asked.drawn(name, given[name], lm, n_train, n_test, seed)
    asked = {name: _asked.asked(subject, lm, taps, drawn(name), context, seed) for name in given}
    found = [_of_task(subject, one, ns, splits, seed) for one in asked.values()]
    keys = [f"tpp_threshold_{n}_{part}" for n in ns for part in _PARTS]
    rows = _rows(subject, keys, found)
    config = {"tasks": given, "ns": ns, "n_train": n_train, "n_test": n_test, "splits": splits}
    mean = lambda one: {key: float(np.mean(_runs((SAE, one), key, found))) for key in keys}
    values = {
        "eval_type_id": "tpp",
        "eval_config": {**config, "context": context, "seed": seed, "model": lm.name, "tap": taps},
        "documents": {name: one.counts for name, one in asked.items()},
        "dictionaries": {one.name: mean(one.name) for one in subject.trained},
        "settings": rows,
    }
    return Result(values, [_table(rows, ns)])


def _runs(at: Key, key: str, found: Sequence[Scores]) -> list[float]:
    """The value in each split, averaged over tasks."""
    return [float(np.mean(of)) for of in zip(*(one[at][key] for one in found), strict=True)]


def _rows(subject: Subject, keys: Sequence[str], found: Sequence[Scores]) -> list[dict[str, Any]]:
    rows = []
    for label, words, names in _asked.settings(subject):
        for kind, said in ((SAE, words), (RANDOM, f"random for {words}")):
            runs = {
                key: [value for name in names for value in _runs((kind, name), key, found)]
                for key in keys
            }
            row: dict[str, Any] = {"label": label, "setting": said, "kind": kind}
            for key, values in runs.items():
                row[key], row[f"{key}_half"] = _asked.interval(values)
            rows.append({**row, "runs": len(runs[keys[0]])})
    return rows


def _of_task(
    subject: Subject, asked: _asked.Asked, ns: Sequence[int], splits: int, seed: int
) -> Scores:
    """The scores of all dictionaries on a task."""
    if len(asked.drawn.classes) < 3:
        raise ValueError(
            f"the task has the classes {asked.drawn.classes}; at least three are needed."
        )
    found: Scores = {}
    atoms = {(SAE, one.name): _documents.atoms(one) for one in subject.trained}
    atoms |= {(RANDOM, name): _documents.atoms(one) for name, one in asked.random.items()}
    x_SD = asked.rows[LLM, ""]
    for n in range(splits):
        each = questions(asked.drawn, seed + n)
        probes = [linear(x_SD, one) for one in each]
        for at, atoms_FD in atoms.items():
            for key, value in score(x_SD, asked.rows[at], atoms_FD, each, probes, ns).items():
                found.setdefault(at, {}).setdefault(key, []).append(value)
    return found


def score(
    x_SD: Float[np.ndarray, "S D"],
    code_SF: Float[np.ndarray, "S F"],
    atoms_FD: Float[np.ndarray, "F D"],
    asked: Sequence[Question],
    probes: Sequence[Probe],
    ns: Sequence[int],
) -> dict[str, float]:
    """The scores of a dictionary in one split.

    Args:
        x_SD, code_SF: the means of the documents.
        atoms_FD: what a unit of each latent adds to the activation.
        asked, probes: the question of each class, and its probe.
        ns: the numbers of latents that are taken out.

    Returns:
        {SAEBench's key: value}.
    """
    logit = lambda row_SD, j: row_SD[asked[j].test_S] @ probes[j].w_D + probes[j].b
    accuracy = lambda row_SD, j: right(logit(row_SD, j), asked[j])
    before = np.array([accuracy(x_SD, j) for j in range(len(asked))])
    found = {}
    for n in ns:
        after = []
        for one, probe in zip(asked, probes, strict=True):
            out = _largest(code_SF, atoms_FD, one, probe, n)
            row_SD = x_SD - code_SF[:, out] @ atoms_FD[out]
            after.append([accuracy(row_SD, j) for j in range(len(asked))])
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


def _largest(
    code_SF: np.ndarray, atoms_FD: np.ndarray, one: Question, probe: Probe, n: int
) -> np.ndarray:
    """The n latents of largest effect on a class, without those of none."""
    y_B, code_BF = one.positive(one.train_S), code_SF[one.train_S]
    apart_F = code_BF[y_B].mean(0) - code_BF[~y_B].mean(0)
    effect_F = np.maximum(apart_F, 0) * (atoms_FD @ probe.w_D)
    chosen = best(effect_F)[:n]
    return chosen[effect_F[chosen] != 0]


def _table(rows: Sequence[Mapping], ns: Sequence[int]) -> Table:
    keys = [f"tpp_threshold_{n}_total_metric" for n in ns]
    columns = ["dictionary", *(cell for n in ns for cell in (f"n {n}", f"n {n} \u00b1")), "runs"]
    cells = [
        (row["setting"], *(row[key + end] for key in keys for end in ("", "_half")), row["runs"])
        for row in rows
    ]
    return Table("Targeted probe perturbation", columns, cells)
