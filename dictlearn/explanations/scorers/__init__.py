"""Scorers of explanations, one file each, found by name.

A scorer is a function of its file's name,

    NAME(case, *, setting=default, ...) -> Plan(requests, result, prompt)

whose plan holds all requests, so that their cost is known before one is sent, and turns the replies into a
Score. A reply that cannot be read counts as failed, never as an answer. The file lists in NEEDS what the scorer
needs: "chat", "text" or "embed" of the client, "codes" or "steered" of the case.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from dictlearn.explanations.case import Case, Plan

__all__ = ["make", "names", "needs", "plan"]


def names() -> list[str]:
    """The names of all scorers.

    Returns:
        The names in alphabetical order.

    Example:
        >>> {"detection", "fuzzing"} <= set(names())
        True
    """
    return sorted(one.name for one in pkgutil.iter_modules(__path__) if one.name[0] != "_")


def make(name: str) -> Callable[..., Plan]:
    """The function of a scorer.

    Args:
        name: a scorer, of `names()`.

    Returns:
        A function of a case and settings that returns a Plan.

    Raises:
        ValueError: for an unknown scorer; the message lists the known ones.

    Example:
        >>> make("detection").__name__
        'detection'
    """
    return getattr(_module(name), name)


def needs(name: str) -> tuple[str, ...]:
    """What a scorer needs.

    Args:
        name: a scorer, of `names()`.

    Returns:
        Words of "chat", "text", "embed", "codes" and "steered".

    Example:
        >>> needs("detection")
        ('chat',)
    """
    return _module(name).NEEDS


def plan(name: str, case: Case, **settings: Any) -> Plan:
    """The plan of a scorer for a case.

    Args:
        name: a scorer, of `names()`.
        case: a latent with its explanation and its windows.
        settings: settings of the scorer.

    Returns:
        A Plan.

    Raises:
        ValueError: for an unknown scorer or setting; the message lists the known ones.

    Example:
        >>> from dictlearn.explanations.samples import Sample
        >>> plan("detection", Case(0, "cats", Sample([], [], [], [], 1.0))).requests
        []
    """
    function = make(name)
    known = [one.name for one in inspect.signature(function).parameters.values()][1:]
    for key in settings:
        if key not in known:
            raise ValueError(f"scorer {name!r} has no setting {key!r}; it has {', '.join(known)}.")
    return function(case, **settings)


def _module(name: str):
    if name not in names():
        raise ValueError(f"unknown scorer {name!r}; the scorers are {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")
