"""Warns of keys and tensors in a model's files that no reader used: they may change the model's function."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

_SHOWN = 8


def tell(where: str, left: Mapping[str, Any] | Iterable[str], what: str = "keys") -> None:
    """Warns once, naming everything that was not used, if there is anything.

    Args:
        where: the file.
        left: the names, or the names and values, that were not used.
        what: what they are: "keys" or "tensors".
    """
    listed = [f"{k}={v!r:.60}" for k, v in left.items()] if isinstance(left, Mapping) else [*left]
    if listed:
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        shown = ", ".join(listed[:_SHOWN]) + more
        warning = "%s: nothing here reads the %s %s; the model is computed without them."
        logging.getLogger("dictlearn").warning(warning, where, what, shown)
