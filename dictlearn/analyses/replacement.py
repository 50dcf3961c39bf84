"""Dictionaries of several runs spliced into the model, each alone and all together: the loss of its
predictions.

With one run per layer, or a set of transcoders, this is the replacement model of Dunefsky et al. 2024 and
Ameisen et al. 2025 (`circuits/replacement.py`). Each layer reads the errors of the layers before.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dictlearn.analyses._asked import interval
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, last
from dictlearn.circuits.replacement import passes, pooled
from dictlearn.experiment.stream import origin
from dictlearn.runs.trained import Trained

NEEDS = ("model", "origin")

MEASURED = ("ce_score", "ce_delta", "kl", "top1_consistency")


def replacement(subjects: Sequence[Subject], *, member: str = "", n_sequences: int = 8) -> Result:
    """The model's loss with a dictionary of every subject in place.

    Args:
        subjects: runs on activations of the language model of the first.
        member: the label of the member that each run gives; empty for any. The last dictionary of its sweep is
            taken. A set of transcoders is replaced as one.
        n_sequences: the number of held-out sequences of the first run, in whole passes of four.

    Returns:
        A Result with `rows`: each dictionary or set alone, and all together if no two write to one tap. Values
        are of all tokens; `half` has the half width of the 95 % interval of each over passes of the model.

    Raises:
        ValueError: for a subject without that member.
    """
    groups = [[last(subject, member)] for subject in subjects]
    (source, *_) = origin(subjects[0].config) or [None]
    if source is None:
        raise ValueError(f"{subjects[0].name} has no language model; its stream has no origin.")
    text = [np.asarray(part[:n_sequences]) for part in source.held_out()]
    whole = [one for each in groups for one in each]
    if len(whole) > 1 and len(set(_written(whole))) == len(_written(whole)):
        groups.append(whole)
    rows = [_row(chosen, passes(subjects[0].lm, chosen, *text)) for chosen in groups]
    return Result({"rows": rows}, [_table(rows)])


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    both = [name for key in MEASURED for name in (key, f"{key} \u00b1")]
    values = lambda row: [one for key in MEASURED for one in (row[key], row["half"][key])]
    cells = [[row["dictionaries"], row["targets"], *values(row)] for row in rows]
    return Table("In the running model", ("dictionaries", "targets", *both), cells)


def _row(chosen: Sequence[Trained], found: Sequence[dict]) -> dict[str, Any]:
    """The row of dictionaries, from the sums of each pass."""
    each = [pooled([one]) for one in found]
    half = {key: interval([one[key] for one in each])[1] for key in MEASURED}
    own = {"dictionaries": _names(chosen), "targets": _told(_written(chosen))}
    return {**own, **pooled(found), "half": half}


def _names(chosen: Sequence[Trained]) -> str:
    return chosen[0].name if len(chosen) == 1 else f"all {len(chosen)}"


def _written(chosen: Sequence[Trained]) -> list[str]:
    """The taps that dictionaries write."""
    return [tap for one in chosen for site in one.sites for tap in site.target]


def _told(taps: Sequence[str]) -> str:
    return ", ".join(taps) if len(taps) < 4 else f"{taps[0]} to {taps[-1]}"
