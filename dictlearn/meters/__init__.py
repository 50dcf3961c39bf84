"""Meters: evaluations as folds. Sums and counts are computed on the device in float32, added on the host in
float64 and divided once. So any partition of the tokens into batches gives the same result. Activations of any
scale give the same shares (`ops/lengths.py`); an undefined value is NaN.

A meter is one file of this folder without a leading underscore, found by its name. It holds

    NAME(subject, *, settings) -> Meter     the function with the name of the file
    COLUMNS                                 which of its values are shown in tables, and how
    NOTE                                    a sentence about the measured data, with values in braces
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
import jax.numpy as jnp
import numpy as np

from dictlearn.types import Codes, Dictionary, Meter

__all__ = ["Subject", "make", "names"]


class Reading(NamedTuple):
    """One batch for meters: targets, reconstructions, codes, and which tokens count."""

    y_BD: jax.Array
    yhat_BD: jax.Array
    codes: Codes
    mask_B: jax.Array


class Logits(NamedTuple):
    """One run of a language model for meters, together with the original run. The totals of such a meter are
    {run: sums} for the three runs of `lm.splice`."""

    logits_STV: jax.Array
    original_STV: jax.Array
    tokens_ST: jax.Array
    mask_ST: jax.Array


class Subject(NamedTuple):
    """The subject of a measurement.

    Args:
        dictionary: the module.
        atoms_FD: its atoms; None for a dictionary without atoms.
        truth_ND: the atoms planted in its data; None where nothing is planted.

    Example:
        >>> from dictlearn import dictionaries
        >>> Subject(dictionaries.make("topk", d_in=4, n_latents=16, k=2)).truth_ND is None
        True
    """

    dictionary: Dictionary
    atoms_FD: Any = None
    truth_ND: Any = None


class Column(NamedTuple):
    """A value as a column of a table. form: its format, shares in per cent. better: 1 if larger is better,
    -1 if smaller is better, 0 for neither. headline: the rank among the values that summarise an
    evaluation, from 1; 0 for the other values."""

    metric: str
    title: str
    meaning: str
    form: str
    better: int
    headline: int = 0


def names() -> list[str]:
    """The names of all meters.

    Returns:
        The names in alphabetical order.

    Example:
        >>> names()
        ['description_length', 'firing', 'loss_recovered', 'reconstruction', 'recovery']
    """
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in files if name[0] != "_")


def make(name: str, subject: Subject, **settings: Any) -> Meter:
    """The meter `name` of a subject.

    Args:
        name: a meter, of `names()`.
        subject: the dictionary that is measured.
        settings: keyword-only arguments of the meter.

    Returns:
        A Meter.

    Raises:
        ValueError: for an unknown name or setting; the message lists the known ones.

    Example:
        >>> from dictlearn import dictionaries
        >>> subject = Subject(dictionaries.make("topk", d_in=4, n_latents=16, k=2))
        >>> type(make("reconstruction", subject)).__name__
        'Meter'
    """
    check({name: settings})
    return getattr(_module(name), name)(subject, **settings)


def check(chosen: Mapping[str, Any]) -> None:
    """Raises ValueError for an unknown meter or setting in {meter: settings}."""
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
    """What a meter reads in addition to batches: "model", "truth", or None."""
    return getattr(_module(name), "NEEDS", None)


def columns() -> list[Column]:
    """The columns of all meters, headlines first."""
    found = [column for name in names() for column in _module(name).COLUMNS]
    return sorted(found, key=lambda column: column.headline or len(found))


def headlines() -> list[Column]:
    """The columns that summarise an evaluation, in order of their rank."""
    return [column for column in columns() if column.headline]


def notes(metrics: Mapping[str, Any]) -> list[str]:
    """The data on which these values were measured, one sentence for each meter."""
    found = []
    for name in names():
        note = getattr(_module(name), "NOTE", "")
        try:
            found.append(note.format(**metrics))
        except KeyError:  # this meter was not chosen
            continue
    return [note for note in found if note]


def add(totals, sums):
    """`totals + sums` for each leaf, in float64."""
    return jax.tree.map(lambda a, b: a + np.asarray(b, np.float64), totals, sums)


def not_finite(reading: Reading) -> jax.Array:
    """The number of unmasked tokens whose targets hold NaN or infinity, for `refuse_not_finite`."""
    return (~jnp.isfinite(reading.y_BD).all(-1) & reading.mask_B).sum()


def refuse_not_finite(number) -> None:
    """Raises ValueError if the targets of some tokens of a batch are not finite: they would make every mean
    NaN, and a mean without them would be of other data."""
    if number:
        raise ValueError(
            f"{number:.0f} tokens of a batch have activations that are not finite; mask them, or inspect"
            " their source."
        )


def ratio(over, under):
    """`over / under`; NaN where `under` is 0, because nothing was measured."""
    return over / under if under else float("nan")


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"unknown meter {name!r}; the meters are {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")
