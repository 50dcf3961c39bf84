"""Compares the values of a config with the annotations of the arguments that they are for."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_KINDS: dict[Any, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: lambda value: isinstance(value, int) and not isinstance(value, bool),
    float: lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    str: lambda value: isinstance(value, str),
    Path: lambda value: isinstance(value, str),
    types.NoneType: lambda value: value is None,
}


def refuse(where: str, tree: Mapping[str, Any], functions: Sequence[Callable]) -> None:
    """Raises ValueError for an argument of a subtree whose type its function does not accept."""
    for function in functions:
        hints = typing.get_type_hints(function)
        for name in tree.keys() & hints.keys() & inspect.signature(function).parameters.keys():
            if not fits(tree[name], hints[name]):
                raise ValueError(f"{where}.{name}={tree[name]!r} must be {_told(hints[name])}.")
            if fits(tree[name], int) and tree[name] < 0 and not fits(-0.5, hints[name]):
                raise ValueError(f"{where}.{name}={tree[name]} must be at least 0.")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of a config has the type `hint`; true for types that no config can hold."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in inner if each in _KINDS or typing.get_origin(each))
    if origin is tuple and isinstance(value, tuple):
        several = inner[1:] == (...,)
        pairs = zip(value, inner[:1] * len(value) if several else inner, strict=False)
        return (several or len(value) == len(inner)) and all(fits(*pair) for pair in pairs)
    if origin is Sequence:
        return isinstance(value, tuple) and all(fits(each, inner[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, Mapping)
    return origin is not tuple and _KINDS.get(hint, lambda _: True)(value)


def _told(hint: Any) -> str:
    """A type in words: int or None."""
    parts = (
        typing.get_args(hint)
        if typing.get_origin(hint) in (typing.Union, types.UnionType)
        else (hint,)
    )
    told = [_word(each) for each in parts if each in _KINDS or typing.get_origin(each)]
    return " or ".join(dict.fromkeys(told))


def _word(hint: Any) -> str:
    if hint is types.NoneType:
        return "None"
    return hint.__name__ if hint in _KINDS else str(hint).removeprefix("collections.abc.")
