"""The language of source code: C, Python, HTML, Java, PHP by SAEBench's choice.

The first 150 characters, often a licence, are left out, and so is code of at most 534 characters.

Source: the data set `codeparrot/github-code` of the hub, of which one of 1,126 files is read; Gurnee et al.
2023.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dictlearn.tasks._files import read
from dictlearn.tasks._task import Task

_SKIPPED, _SHORTEST = 150, 534


def github_code(
    *,
    source: str | Path = "codeparrot/github-code",
    most: int | None = 5000,
    patterns: Sequence[str] = ("train-00000-of-*.parquet",),
) -> Task:
    """Reads the code.

    Args:
        source: the name of the data set on the hub, or a file or a folder of its records.
        most: at most so many documents of each language are read; None for all.
        patterns: the files to read.

    Returns:
        The Task, without a split.

    Raises:
        ValueError: for a bad record, naming the file and the column, and for no code that is long enough.
        FileNotFoundError: for a path that does not exist.
    """
    found = read(source, text="code", label="language", most=most, patterns=patterns)
    long_S = np.array([len(one) > _SHORTEST for one in found.text])
    if not long_S.any():
        raise ValueError(f"{str(source)!r} holds no code of more than {_SHORTEST} characters.")
    kept = found.where(long_S)
    return kept._replace(text=tuple(one[_SKIPPED:] for one in kept.text), split_S=None)
