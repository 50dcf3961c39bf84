"""Scorers of explanations, one file each, found by name.

A scorer is a function of its file's name,

    NAME(case, *, setting=default, ...) -> Plan(requests, result, prompt)

whose plan holds all requests, so that their cost is known before one is sent, and turns the replies into a
Score. A reply that cannot be read counts as failed, never as an answer. A scorer that needs something of the
model, such as activations on any text, says so in its file,

    NEEDS = {"codes": codes_of}

name -> a function of the dictionary in its model and of the latent. `case.need("codes")` is what it made.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from dictlearn.explanations.case import Case, InModel, Plan

__all__ = ["given", "make", "names", "needs", "plan"]


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


def needs(name: str) -> Mapping[str, Callable[[InModel, int], Any]]:
    """What a scorer needs of the model.

    Args:
        name: a scorer, of `names()`.

    Returns:
        {name: the function that makes it}; empty for a scorer that reads windows alone.

    Raises:
        ValueError: for an unknown scorer; the message lists the known ones.

    Example:
        >>> sorted(needs("n2g")), needs("detection")
        (['codes', 'pad'], {})
    """
    return vars(_module(name)).get("NEEDS", {})


def given(name: str, model: InModel, latent: int) -> dict[str, Any]:
    """What a scorer needs of the model, for `Case.given`.

    Args:
        name: a scorer, of `names()`.
        model: the dictionary in its model.
        latent: the latent.

    Returns:
        {name: what its function in NEEDS made}.

    Raises:
        ValueError: for an unknown scorer; the message lists the known ones.
    """
    return {each: make_it(model, latent) for each, make_it in needs(name).items()}


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
