"""The values that a config may hold, and their form on disk: reading back gives equal values.

A value is None, a truth value, a number, a string, or a tuple or subtree of values. `settled` converts a config
to this form. JSON has no tuples and no numbers that are not finite, so a tuple is written as a list, and inf as
`{"float": "inf"}`.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

FLOAT = "float"
"""The only key of a number that is not finite, in JSON."""
LARGEST = 2**64


def settled(value: Any, where: str = "config") -> Any:
    """`value` in the form of a config: lists and arrays become tuples, a ConfigDict becomes a dict, a path its
    string, and numbers of NumPy and JAX become numbers of Python.

    Raises ValueError for any other value, with its key, which begins with `where`."""
    match value:
        case None | bool() | str():
            return value
        case int() if -LARGEST < value < LARGEST:
            return int(value)
        case float():
            return float(value)
        case PurePath():
            return str(value)
        case ConfigDict():
            return settled(value.to_dict(), where)
        case Mapping():
            return {_key(key, where): settled(v, f"{where}.{key}") for key, v in value.items()}
        case list() | tuple():
            return tuple(settled(each, f"{where}[{i}]") for i, each in enumerate(value))
        case np.ndarray() | np.generic() | jax.Array() if np.asarray(value).dtype.kind in "biuf":
            return settled(np.asarray(value).tolist(), where)
        case int():
            told = f"={value}" if value.bit_length() < 200 else ""
            raise ValueError(
                f"{where}{told} has {value.bit_length()} bits; a whole number may have 64."
            )
    raise ValueError(
        f"{where} is a {type(value).__name__}; a config holds None, truth values, numbers, strings, and tuples "
        "and subtrees of them."
    )


def to_json(tree: Any, where: str = "config") -> Any:
    """A config in the form for JSON. Raises ValueError as `settled` does."""
    return _to_json(settled(tree, where))


def from_json(tree: Any) -> Any:
    """The inverse of `to_json`."""
    if isinstance(tree, Mapping):
        if tree.keys() == {FLOAT}:
            return float(tree[FLOAT])
        return {key: from_json(value) for key, value in tree.items()}
    return tuple(map(from_json, tree)) if isinstance(tree, list) else tree


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal; NaN equals NaN."""
    return a == b or json.dumps(a) == json.dumps(b)


def plain_name(name: str, where: str) -> None:
    """Raises ValueError for a name that some file system does not accept."""
    if not re.fullmatch(r"[^\W_][\w .+=@~-]{0,99}", name) or name[-1] in " .":
        raise ValueError(
            f"{where} {name!r} must be a file's name: at most 100 letters, digits and any of _.+-=@~, a "
            "letter or a digit first."
        )


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_json(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_to_json(each) for each in value]
    infinite = isinstance(value, float) and not math.isfinite(value)
    return {FLOAT: str(value)} if infinite else value


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{where} has the key {key!r}; the keys of a config are strings.")
    return key
