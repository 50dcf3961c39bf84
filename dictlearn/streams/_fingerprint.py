"""The differences of two fingerprints, for error messages. Names are ignored."""

from collections.abc import Iterator, Mapping
from typing import Any

_NAMES = ("name", "file", "source")
"""Keys that hold names: a file with the same content may be moved and linked."""


def differ(was: Any, now: Any, name: str = "") -> Iterator[str]:
    """A phrase for every leaf of `was` that differs in `now`: "model.sha256 was '91cc', now '3f2a'"."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in [key for key in {**was, **now} if key not in _NAMES]:
            yield from differ(was.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif was != now:
        yield f"{name} was {_short(was)}, now {_short(now)}"


def _short(value: Any) -> str:
    """The first digits of a checksum, as git shows one."""
    shown = repr(value)
    return f"{shown[:13]}..." if isinstance(value, str) and len(value) == 64 else shown
