"""Dictionaries of several runs spliced into the model, each alone and all together: the loss of its
predictions.

With one run per layer, whose transcoders replace all MLPs, this is the replacement model of Dunefsky et al.
2024 and Ameisen et al. 2025 (`circuits/replacement.py`). Each layer reads the errors of the layers before.
"""

from collections.abc import Sequence

import numpy as np

from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject
from dictlearn.circuits.replacement import measure
from dictlearn.experiment.stream import origin
from dictlearn.runs.trained import Trained, place

NEEDS = ("model", "origin")

SHOWN = ("ce_score", "ce_delta", "kl", "top1_consistency")


def replacement(subjects: Sequence[Subject], *, member: str = "", n_sequences: int = 8) -> Result:
    """The model's loss with a dictionary of every subject in place.

    Args:
        subjects: runs on activations of the language model of the first.
        member: the label of the member that each run gives; empty for any. The last dictionary of its sweep is
            taken.
        n_sequences: the number of held-out sequences of the first run, in whole passes of four.

    Returns:
        A Result with `rows`: each dictionary alone, and all together.

    Raises:
        ValueError: for a subject without that member, and for two that write to one tap.
    """
    chosen = [_of(subject, member) for subject in subjects]
    (source, *_) = origin(subjects[0].config) or [None]
    if source is None:
        raise ValueError(f"{subjects[0].name} has no language model; its stream has no origin.")
    text = [np.asarray(part[:n_sequences]) for part in source.held_out()]
    together = [[one] for one in chosen] + ([chosen] if len(chosen) > 1 else [])
    rows = [
        {"dictionaries": _names(each), "targets": ", ".join(place(one)[1] for one in each)}
        | dict(measure(subjects[0].lm, each, *text))
        for each in together
    ]
    columns = ("dictionaries", "targets", *SHOWN)
    table = Table("In the running model", columns, [[row[key] for key in columns] for row in rows])
    return Result({"rows": rows}, [table])


def _of(subject: Subject, member: str) -> Trained:
    """The last dictionary of the member, or of the subject."""
    label = lambda one: subject.metrics[one.name]["label"]
    found = [one for one in subject.trained if not member or label(one) == member]
    if not found:
        there = ", ".join(dict.fromkeys(map(label, subject.trained)))
        raise ValueError(f"{subject.name} has no {member=}; there are {there}.")
    return found[-1]


def _names(chosen: Sequence[Trained]) -> str:
    return chosen[0].name if len(chosen) == 1 else f"all {len(chosen)}"
