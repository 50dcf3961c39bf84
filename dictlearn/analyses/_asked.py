"""What analyses of labelled documents share: the tasks of a setting, the rows of their documents in every
dictionary and in random ones, the settings of a run, rows of results with intervals, and their table.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictlearn import tasks as room
from dictlearn.analyses import _documents
from dictlearn.analyses._probing import LLM, PCA, RANDOM, SAE, Key
from dictlearn.analyses._result import Table
from dictlearn.analyses._settings import by_setting
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.lm import LM
from dictlearn.runs.trained import Trained
from dictlearn.tasks import Drawn, Task

_SAMPLE = 64
"""Documents from which the random dictionaries take their L0."""
_CONFIDENCE = 0.95
RMU, MDAS, UNTRAINED = "rmu", "mdas", "untrained"
MEAN_CODES, MSE_CODES = "mean_codes", "mse_codes"
"""Baselines of one analysis: a model that is trained to forget (`unlearning`), the axes of a rotation that is
learned with a mask over them (`ravel`), a dictionary with its first weights (`meta_structure`), and supervised
dictionaries (`ioi`)."""
SAID = {
    **{LLM: "residual channels", PCA: "principal components", RANDOM: "random"},
    **{RMU: "RMU, which trains the model", MDAS: "learned rotation", UNTRAINED: "untrained"},
    **{MEAN_CODES: "supervised, mean codes", MSE_CODES: "supervised, MSE codes"},
}
"""The baselines in words."""


class Asked(NamedTuple):
    """A task: its documents, their rows of each kind, the L0 of each dictionary on them, and the random
    dictionary beside each."""

    drawn: Drawn
    rows: dict[Key, np.ndarray]
    l0: dict[str, float]
    random: dict[str, Trained]

    @property
    def counts(self) -> dict[str, int]:
        """The number of documents of each class."""
        found = np.bincount(self.drawn.class_S).tolist()
        return dict(zip(self.drawn.classes, found, strict=True))


class Data(NamedTuple):
    """Which documents are read. The fields are settings of the analyses."""

    tasks: str | Sequence[str] | Mapping[str, Mapping]
    n_train: int
    n_test: int
    context: int
    seed: int
    model: str
    tap: str


class Opened(NamedTuple):
    """A subject with its model and taps, the settings of each task, and its documents in every dictionary."""

    subject: Subject
    lm: LM
    taps: tuple[str, ...]
    tasks: dict[str, dict[str, Any]]
    asked: dict[str, Asked]

    def values(self, name: str, data: Data, **settings: Any) -> dict[str, Any]:
        """The first entries of the values of an analysis, under SAEBench's keys."""
        config = {**data._asdict(), **settings, "tasks": self.tasks}
        return {
            "eval_type_id": name,
            "eval_config": {**config, "model": self.lm.name, "tap": self.taps},
            "documents": {task: one.counts for task, one in self.asked.items()},
        }

    def l0(self, kind: str, names: Sequence[str]) -> float | None:
        """The mean L0 of dictionaries over the tasks; None for directions, which are always active."""
        if kind in (LLM, PCA):
            return None
        return float(np.mean([one.l0[name] for one in self.asked.values() for name in names]))


Draws = Callable[[str, Mapping[str, Any], LM, Data], Mapping[str, Drawn]]
"""(task, its settings, model, data) -> the documents of the task by name."""


def opened(
    subjects: Sequence[Subject], name: str, data: Data, draws: Draws | None = None
) -> Opened:
    """Reads the documents of every task of the analysis `name` of one subject.

    draws: what the documents of a task are; None for equally many of each class.
    """
    (subject,) = exactly(1, subjects, name)
    lm, taps = _documents.site(subject, data.model, data.tap)
    given = named(data.tasks)
    chosen = {
        key: one
        for task in given
        for key, one in (draws or _whole)(task, given[task], lm, data).items()
    }
    found = {
        key: asked(subject, lm, taps, one, data.context, data.seed) for key, one in chosen.items()
    }
    return Opened(subject, lm, taps, given, found)


def _whole(name: str, more: Mapping[str, Any], lm: LM, data: Data) -> dict[str, Drawn]:
    return {name: drawn(name, more, lm, data.n_train, data.n_test, data.seed)}


def named(tasks: str | Sequence[str] | Mapping[str, Mapping]) -> dict[str, dict[str, Any]]:
    """{name: settings} of the setting `tasks`."""
    if isinstance(tasks, Mapping):
        return {name: dict(more) for name, more in tasks.items()}
    return {name: {} for name in ([tasks] if isinstance(tasks, str) else tasks)}


def drawn(
    name: str, more: Mapping[str, Any], lm: LM, n_train: int, n_test: int, seed: int
) -> Drawn:
    """The documents of a task. Its setting `balance` is the draw's."""
    task = made(name, more, lm, ("balance",))
    return room.draw(task, n_train, n_test, balance=more.get("balance", ""), seed=seed)


def made(name: str, more: Mapping[str, Any], lm: LM, ours: Sequence[str]) -> Task:
    """The task of a name. The setting `task` names it where the name is another. ours: settings that are not
    the task's."""
    own = {key: value for key, value in more.items() if key not in ("task", *ours)}
    return room.make(more.get("task", name), lm.tokenizer, **own)


def asked(
    subject: Subject, lm: LM, taps: Sequence[str], drawn: Drawn, context: int, seed: int
) -> Asked:
    """The rows of a task's documents: of the activation, of every dictionary, and of random ones of its width
    and L0, of which several dictionaries may share one."""
    documents = _documents.tokens(lm, drawn.text, context)
    some = np.random.default_rng(seed).permutation(len(documents))[:_SAMPLE]
    first = _documents.means(lm, taps, subject.trained, [documents[s] for s in some])
    of = {
        one.name: _documents.random_dictionary(one.module.n_latents, l0, first.x_SD.mean(0), seed)
        for one, l0 in zip(subject.trained, first.l0, strict=True)
    }
    random = list({one.name: one for one in of.values()}.values())
    means = _documents.means(lm, taps, [*subject.trained, *random], documents)
    codes = zip([*subject.trained, *random], means.code_SF, means.l0, strict=True)
    coded = {one.name: (code_SF, l0) for one, code_SF, l0 in codes}
    rows: dict[Key, np.ndarray] = {(LLM, ""): means.x_SD}
    for name, other in of.items():
        rows |= {(SAE, name): coded[name][0], (RANDOM, name): coded[other.name][0]}
    return Asked(drawn, rows, {name: coded[name][1] for name in of}, of)


def settings(subject: Subject) -> list[tuple[str, str, list[str]]]:
    """(label, words, the names of its dictionaries) of each setting of a run; without a run, each dictionary
    is a setting."""
    if subject.path is None or subject.run is None:
        return [(one.name, one.name, [one.name]) for one in subject.trained]
    return [
        (each.label, ", ".join(filter(None, (each.label, each.words))), names)
        for each, names in by_setting(subject).items()
    ]


def rows(
    subject: Subject,
    keys: Sequence[str],
    runs: Callable[[Key, str], Sequence[float]],
    l0: Callable[[str, Sequence[str]], float | None],
    alone: Sequence[str] = (LLM, PCA),
    beside: Sequence[str] = (RANDOM,),
) -> list[dict[str, Any]]:
    """A row for each baseline and each setting: the mean of every key over dictionary seeds and splits, with
    the half width of its interval.

    keys: the keys of the values. runs: (kind, dictionary), key -> the value in each split. l0: kind, names of
    dictionaries -> their mean L0. alone, beside: the baselines of all dictionaries, and of each setting.
    """
    found = [_row(keys, runs, "", SAID[kind], kind, [""], l0(kind, [""])) for kind in alone]
    for label, words, names in settings(subject):
        said = [(kind, kind, f"{SAID[kind]} for {words}") for kind in beside]
        for kind, head, told in ((SAE, label, words), *said):
            found.append(_row(keys, runs, head, told, kind, names, l0(kind, names)))
    return found


def _row(
    keys: Sequence[str],
    runs: Callable[[Key, str], Sequence[float]],
    label: str,
    words: str,
    kind: str,
    names: Sequence[str],
    l0: float | None,
) -> dict[str, Any]:
    row: dict[str, Any] = {"label": label, "setting": words, "kind": kind, "l0": l0}
    row["dictionaries"] = list(filter(None, names))
    counts = [0]
    for key in keys:
        values = [one for name in names for one in runs((kind, name), key)]
        row[key], row[f"{key}_half"] = interval(values)
        counts.append(len(values))
    return {**row, "runs": max(counts)}


def table(title: str, rows: Sequence[Mapping], heads: Mapping[str, str]) -> Table:
    """The rows as a table. heads: {key: heading}."""
    ends = ("", "_half")
    columns = [
        *("dictionary", "L0"),
        *(cell for head in heads.values() for cell in (head, f"{head} \u00b1")),
        "runs",
    ]
    cells = [
        (row["setting"], row["l0"], *(row[key + end] for key in heads for end in ends), row["runs"])
        for row in rows
    ]
    return Table(title, columns, cells)


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """(mean, half width of the interval of the mean), by Student's t; None where it is not defined."""
    from scipy import stats

    if len(values) < 2:
        return (values[0] if values else None), None
    t = stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)
    half = t * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)
