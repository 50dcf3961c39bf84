"""Spurious correlation removal: whether a concept has latents apart from another that comes with it (SAEBench).

    biased probe    class a with value u against class b with value v: it cannot tell class from value
    orig            its accuracy on one of the two concepts, class or value, on balanced documents
    clean           the accuracy of a probe that was fitted to balanced documents
    abl             as orig, after the n latents of largest effect on the other concept are taken out
    score           (abl - orig) / (clean - orig)        0 where clean - orig is below 0.001

The effect of a latent is |its mean on one side - on the other| |w W_dec,i|, with w the balanced probe of the
concept that is removed. dir1 removes the value and asks for the class, dir2 the reverse. The metric is the
direction whose orig is lower. Each pair of classes counts equally, then each task.

Source: SAEBench 8042bb3, whose keys the values have; Marks et al. 2024 (SHIFT).
Differs: analyses/_probing.py (the probe) and tasks/_draw.py. SAEBench chooses the probe's epoch on the test
documents.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from dictlearn import tasks as room
from dictlearn.analyses import _ablated, _asked
from dictlearn.analyses._ablated import Basis, Scores
from dictlearn.analyses._probing import LLM, linear, right
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject
from dictlearn.lm import LM
from dictlearn.ops.sparse_probes.logistic import Probe
from dictlearn.tasks import Drawn, Question, Task

NEEDS = ("model", "origin")
_METRIC, _DIRECTIONS = "scr_metric_threshold", ("scr_dir1_threshold", "scr_dir2_threshold")
_SMALLEST = 1e-3
_OWN = ("attribute", "values", "pairs")
"""The settings of a task that are not its own."""


def scr(
    subjects: Sequence[Subject],
    *,
    tasks: str | Sequence[str] | Mapping[str, Mapping[str, Any]] = {
        "wiki_topics": {"pairs": (("Arts", "History"),)}
    },
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
        tasks: names of `tasks`, paths of files, or {name: settings}. `pairs` names pairs of classes; without
            it, the most frequent class is paired with the next, and so on. `attribute` names the attribute that
            comes with the class; without it, the only one. `values` names two of its values, without which they
            are its only two; the first comes with the first class of a pair.
        ns: the numbers of latents that are taken out.
        n_train, n_test: the examples of each probe, fewer where a class is small; SAEBench has 4000 and 1000.
        splits, context, seed, model, tap: as in `sparse_probing`.

    Returns:
        A Result with SAEBench's record of each dictionary, and a row for each setting with the half width of
        its 95 % interval over dictionary seeds and splits.

    Raises:
        ValueError: for a subject without a model, an unknown task, an attribute without two values, and
            settings out of bounds.
    """
    _ablated.check(ns, splits)
    data = _asked.Data(tasks, n_train, n_test, context, seed, model, tap)
    opened = _asked.opened(subjects, "scr", data, _draws)
    found = {
        name: _of_pair(opened.subject, one, ns, splits, seed) for name, one in opened.asked.items()
    }
    by_task = {
        task: _ablated.mean(
            [scores for name, scores in found.items() if name.startswith(f"{task}: ")]
        )
        for task in opened.tasks
    }
    keys = [f"{part}_{n}" for n in ns for part in (_DIRECTIONS[0], _METRIC, _DIRECTIONS[1])]
    rows, records = _ablated.values("scr", opened, by_task, keys)
    given = opened.values("scr", data, ns=ns, splits=splits)
    heads = {f"{_METRIC}_{n}": f"n {n}" for n in ns}
    table = _asked.table("Spurious correlation removal", rows, heads)
    return Result({**given, "dictionaries": records, "settings": rows}, [table])


def _draws(name: str, more: Mapping[str, Any], lm: LM, data: _asked.Data) -> dict[str, Drawn]:
    """The documents of each pair of classes of a task, whose four classes are (class, value)."""
    task = _asked.made(name, more, lm, _OWN)
    there = list(task.counts)
    pairs = more.get("pairs") or list(zip(there[::2], there[1::2], strict=False))
    named = [tuple(map(str, two)) for two in pairs]
    return {f"{name}: {a}, {b}": crossed(task, (a, b), more, data) for a, b in named}


def crossed(task: Task, pair: tuple[str, str], more: Mapping[str, Any], data: _asked.Data) -> Drawn:
    """Equally many documents of each of the two classes with each of the two values, in the order a u, a v, b
    u, b v. Raises ValueError for an attribute without two values, and for an unknown one."""
    attribute = more.get("attribute") or (*task.attributes, "")[0]
    if attribute not in task.attributes or (len(task.attributes) > 1 and "attribute" not in more):
        there = ", ".join(task.attributes) or "none"
        raise ValueError(
            f"attribute={attribute!r} is not the one attribute of the task; there are {there}."
        )
    value_S = task.attributes[attribute]
    values = tuple(map(str, more.get("values") or np.unique(value_S)))
    if len(values) != 2:
        raise ValueError(f"{attribute} has the values {list(values)}; two are needed, in values.")
    kept_S = np.isin(task.label_S, pair) & np.isin(value_S, values)
    one = task.where(kept_S)
    place = lambda at_S, of: np.array([of.index(str(each)) for each in at_S], int)
    cell_S = 2 * place(one.label_S, pair) + place(value_S[kept_S], values)
    cells = [f"{i} {a}, {u}" for i, (a, u) in enumerate(product(pair, values))]
    labelled = one._replace(label_S=np.array(cells)[cell_S])
    return room.draw(labelled, data.n_train, data.n_test, seed=data.seed)


class Bias(NamedTuple):
    """A pair of concepts that come together. probe: the biased one. concepts: the question of the class, and
    of the value. clean: their probes, fitted to balanced documents."""

    probe: Probe
    concepts: list[Question]
    clean: list[Probe]


def _of_pair(
    subject: Subject, asked: _asked.Asked, ns: Sequence[int], splits: int, seed: int
) -> Scores:
    """The scores of all dictionaries and baselines on a pair of classes."""
    found: Scores = {}
    trained, x_SD = _ablated.dictionaries(subject, asked), asked.rows[LLM, ""]
    for n in range(splits):
        one = bias(x_SD, asked.drawn, seed + n)
        for at, basis in (trained | _ablated.directions(asked, one.concepts)).items():
            found.setdefault(at, []).append(score(x_SD, basis, one, ns))
    return found


def bias(x_SD: np.ndarray, drawn: Drawn, seed: int) -> Bias:
    """The probes of the four classes of `crossed`. All have as many train documents."""
    (au, au_test), (av, av_test), (bu, bu_test), (bv, bv_test) = room.split(drawn, seed)
    half = lambda *cells: np.concatenate([one[: (len(one) + 1) // 2] for one in cells])
    of = lambda name, train, test: Question(name, half(*train), np.concatenate(test))
    concepts = [
        of("class", (au, av, bu, bv), (au_test, av_test, bu_test, bv_test)),
        of("value", (au, bu, av, bv), (au_test, bu_test, av_test, bv_test)),
    ]
    biased = Question("biased", np.concatenate([au, bv]), np.empty(0, int))
    return Bias(linear(x_SD, biased), concepts, [linear(x_SD, one) for one in concepts])


def score(x_SD: np.ndarray, basis: Basis, one: Bias, ns: Sequence[int]) -> dict[str, float]:
    """The scores of a dictionary in one split.

    Args:
        x_SD: the means of the documents.
        basis: their codes, and what a unit of each latent adds to the activation.
        one: the concepts and their probes.
        ns: the numbers of latents that are taken out.

    Returns:
        {SAEBench's key: value}.
    """
    accuracy = lambda row_SD, by, asked: right(row_SD[asked.test_S] @ by.w_D + by.b, asked)
    clean = [accuracy(x_SD, by, asked) for by, asked in zip(one.clean, one.concepts, strict=True)]
    before = [accuracy(x_SD, one.probe, asked) for asked in one.concepts]
    effects = [
        np.abs(basis.apart(asked) * (basis.atoms_FD @ by.w_D))
        for by, asked in zip(one.clean, one.concepts, strict=True)
    ]
    found = {}
    for n in ns:
        # The latents of the other concept.
        outs = [_ablated.largest(effect_F, n) for effect_F in reversed(effects)]
        after = [
            accuracy(basis.without(x_SD, out), one.probe, asked)
            for out, asked in zip(outs, one.concepts, strict=True)
        ]
        sides = list(map(share, before, clean, after))
        found |= {f"{part}_{n}": side for part, side in zip(_DIRECTIONS, sides, strict=True)}
        found[f"{_METRIC}_{n}"] = sides[int(np.argmin(before))]
    return found


def share(before: float, clean: float, after: float) -> float:
    """How much of the accuracy that a bias costs is won back; 0 where it costs less than 0.001."""
    cost = clean - before
    return (after - before) / cost if cost >= _SMALLEST else 0.0
