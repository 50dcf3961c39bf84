"""Clients, one file each, found by name.

A file without a leading underscore exports a function or a class of its name that returns a
`client.Client`; its keyword arguments are what a user may set.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from dictlearn.explanations.client import Client

__all__ = ["make", "maker", "names"]


def names() -> list[str]:
    """The names of all clients.

    Returns:
        The names in alphabetical order.

    Example:
        >>> "openai" in names()
        True
    """
    return sorted(one.name for one in pkgutil.iter_modules(__path__) if one.name[0] != "_")


def make(name: str, **settings: Any) -> Client:
    """A client.

    Args:
        name: a client, of `names()`.
        settings: its settings.

    Returns:
        The client.

    Raises:
        ValueError: for an unknown name or setting; the message lists the known ones.

    Example:
        >>> make("openai", url="http://localhost:8000/v1", model="judge").name
        'judge'
    """
    function = maker(name)
    known = list(inspect.signature(function).parameters)
    for key in settings:
        if key not in known:
            raise ValueError(f"client {name!r} has no setting {key!r}; it has {', '.join(known)}.")
    return function(**settings)


def maker(name: str) -> Callable[..., Client]:
    """The function of a client.

    Args:
        name: a client, of `names()`.

    Returns:
        A function of settings that returns a client.

    Raises:
        ValueError: for an unknown client; the message lists the known ones.

    Example:
        >>> maker("openai").__name__
        'openai'
    """
    if name not in names():
        raise ValueError(f"unknown client {name!r}; the clients are {', '.join(names())}.")
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)
