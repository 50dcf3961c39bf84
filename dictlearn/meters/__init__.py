"""Meters: evaluations as folds. Sums and counts are taken on the device in float32, added up on the
host in float64 and divided once, so any partition of the tokens into batches gives the same result.

A meter is one file here without a leading underscore, found by its name. It holds

    NAME(subject, *, settings) -> Meter     the function of its own name
    COLUMNS                                 which of its values tables show, and how
    NOTE                                    a sentence on what it was measured on, with values in braces
    NEEDS                                   "model": it reads the runs of a language model, `Logits`, one run at
                                            a time; "truth": the stream has planted atoms; absent: neither
"""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from dictlearn.types import Codes, Dictionary, Meter


class Reading(NamedTuple):
    """One batch as meters see it: targets, reconstructions, codes, and which tokens count."""

    y_BD: jax.Array
    yhat_BD: jax.Array
    codes: Codes
    mask_B: jax.Array


class Logits(NamedTuple):
    """One run of a language model as meters see it, beside the original one. A total of such a meter is
    {run: sums} of the three runs of `lm.splice`."""

    logits_STV: jax.Array
    original_STV: jax.Array
    tokens_ST: jax.Array
    mask_ST: jax.Array


class Subject(NamedTuple):
    """What is measured: a dictionary, its atoms where it has them, and the atoms planted in its data."""

    dictionary: Dictionary
    atoms_FD: Any = None
    truth_ND: Any = None


class Column(NamedTuple):
    """A value as a column of a table. form: how it is shown, shares in per cent. better: 1 if more is better,
    -1 if less is, 0 where neither is. headline: the rank among the values that stand for a whole evaluation,
    1 first; 0 for the others."""

    metric: str
    title: str
    meaning: str
    form: str
    better: int
    headline: int = 0


def names() -> list[str]:
    """The meters there are."""
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in files if name[0] != "_")


def make(name: str, subject: Subject, **settings: Any) -> Meter:
    """The meter `name` of a subject.

    Raises ValueError for an unknown name or setting, listing what there is.

    Example: `make("recovery", Subject(module, atoms_FD, truth_ND), at=(0.9,))`"""
    check({name: settings})
    return getattr(_module(name), name)(subject, **settings)


def check(chosen: Mapping[str, Any]) -> None:
    """Raises ValueError for a meter or a setting, of {meter: settings}, that there is not."""
    for name, settings in chosen.items():
        known = inspect.signature(getattr(_module(name), name)).parameters.values()
        own = [one.name for one in known if one.kind is one.KEYWORD_ONLY]
        if not isinstance(settings, Mapping):
            raise ValueError(f"the settings of meter {name!r} must be a subtree, not {settings!r}.")
        for key in settings:
            if key not in own:
                raise ValueError(
                    f"meter {name!r} has no setting {key!r}; it has {', '.join(own) or 'none'}."
                )


def needs(name: str) -> str | None:
    """What a meter reads beside batches: "model", "truth", or None."""
    return getattr(_module(name), "NEEDS", None)


def columns() -> list[Column]:
    """The columns of all meters, headlines first."""
    found = [column for name in names() for column in _module(name).COLUMNS]
    return sorted(found, key=lambda column: column.headline or len(found))


def headlines() -> list[Column]:
    """The columns that stand for a whole evaluation, the first first."""
    return [column for column in columns() if column.headline]


def notes(metrics: Mapping[str, Any]) -> list[str]:
    """What these values were measured on, a sentence a meter."""
    found = []
    for name in names():
        note = getattr(_module(name), "NOTE", "")
        try:
            found.append(note.format(**metrics))
        except KeyError:  # this meter was not chosen
            continue
    return [note for note in found if note]


def add(totals, sums):
    """`totals + sums`, leaf by leaf, in float64."""
    return jax.tree.map(lambda a, b: a + np.asarray(b, np.float64), totals, sums)


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"unknown meter {name!r}; there are {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")
