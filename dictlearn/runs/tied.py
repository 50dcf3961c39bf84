"""Ties a run to its training data: every command that reads data for it compares fingerprints first."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictlearn.experiment import values
from dictlearn.streams._fingerprint import differ


def refuse_other_data(
    path: Path, was: Mapping[str, Any], now: Mapping[str, Any], allow_changed: bool
) -> None:
    """Compares the fingerprint of a run with the current one of its stream.

    Args:
        path: the workdir of the run.
        was: the fingerprint of the run; empty for a published dictionary, for which nothing is compared.
        now: the current fingerprint.
        allow_changed: whether differences are logged instead of refused.

    Raises:
        ValueError: for other data, naming the differences.
    """
    changed = was and "; ".join(differ(was, values.to_json(now, "data")))
    if not changed:
        return
    if not allow_changed:
        raise ValueError(
            f"{path} was trained on other data: {changed}. Give the data that it was trained on, another "
            "--workdir, or --allow_changed to continue with the present data."
        )
    warning = "%s continues with other data than it was trained on: %s."
    logging.getLogger("dictlearn").warning(warning, path, changed)
