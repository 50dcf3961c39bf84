"""A run is tied to what it was trained on: whatever reads data for it compares fingerprints first."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictlearn.experiment import values
from dictlearn.streams._fingerprint import differ


def refuse_other_data(
    path: Path, was: Mapping[str, Any], now: Mapping[str, Any], allow_changed: bool
) -> None:
    """Compares what the run in `path` was trained on with what there is now, both as `Stream.fingerprint` says.

    Raises ValueError that names what differs; where that is allowed, the log says it."""
    changed = "; ".join(differ(was, values.to_json(now, "data")))
    if not changed:
        return
    if not allow_changed:
        raise ValueError(
            f"{path} was trained on other data: {changed}. Give it what it was trained on, another "
            "--workdir, or --allow_changed to go on with what there is now."
        )
    warning = "%s goes on with other data than it was trained on: %s."
    logging.getLogger("dictlearn").warning(warning, path, changed)
