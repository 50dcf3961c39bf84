"""What a model's files say and no reader asked for is told: its value may change what the model computes."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

_SHOWN = 8


def tell(where: str, left: Mapping[str, Any] | Iterable[str], what: str = "keys") -> None:
    """One warning that names what was left over, if anything was."""
    listed = [f"{k}={v!r:.60}" for k, v in left.items()] if isinstance(left, Mapping) else [*left]
    if listed:
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        shown = ", ".join(listed[:_SHOWN]) + more
        warning = "%s: nothing here reads the %s %s; the model is computed without them."
        logging.getLogger("dictlearn").warning(warning, where, what, shown)
