"""What analyses of labelled documents share: the tasks of a setting, the rows of their documents in every
dictionary and in random ones, the settings of a run, and intervals.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dictlearn import tasks as room
from dictlearn.analyses import _documents
from dictlearn.analyses._probing import LLM, RANDOM, SAE, Key
from dictlearn.analyses._settings import by_setting
from dictlearn.analyses._subject import Subject
from dictlearn.lm import LM
from dictlearn.runs.trained import Trained
from dictlearn.tasks import Drawn

_SAMPLE = 64
"""Documents from which the random dictionaries take their L0."""
_CONFIDENCE = 0.95


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


def named(tasks: str | Sequence[str] | Mapping[str, Mapping]) -> dict[str, dict[str, Any]]:
    """{name: settings} of the setting `tasks`."""
    if isinstance(tasks, Mapping):
        return {name: dict(more) for name, more in tasks.items()}
    return {name: {} for name in ([tasks] if isinstance(tasks, str) else tasks)}


def drawn(
    name: str, more: Mapping[str, Any], lm: LM, n_train: int, n_test: int, seed: int
) -> Drawn:
    """The documents of a task. Its setting `balance` is the draw's."""
    task = room.make(name, lm.tokenizer, **{k: v for k, v in more.items() if k != "balance"})
    return room.draw(task, n_train, n_test, balance=more.get("balance", ""), seed=seed)


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


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """(mean, half width of the interval of the mean), by Student's t; None where it is not defined."""
    from scipy import stats

    if len(values) < 2:
        return (values[0] if values else None), None
    t = stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)
    half = t * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)
