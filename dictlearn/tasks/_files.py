"""Labelled texts in files of your own.

    {"text": "...", "label": "nurse", "split": "train", "gender": "female"}

A file is JSON lines (.jsonl, also .gz and .zst), CSV with a header, or Parquet, with a record for each
document. A folder or a glob of such files is one task. The split comes from a column, if one is named, or else
from the name of the file (`train-00000.parquet`, `test.jsonl`). A task without splits is split by the seed of
what uses it. The label is text or a number.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dictlearn.tasks._records import Record, files, records
from dictlearn.tasks._task import SPLITS, Task


def read(
    source: str | Path,
    *,
    text: str = "text",
    label: str = "label",
    split: str = "",
    attributes: Sequence[str] = (),
    most: int | None = None,
    patterns: Sequence[str] = ("*.parquet", "*.jsonl", "*.csv"),
) -> Task:
    """Reads a task from files.

    Args:
        source: a file, a folder, a glob, or the name of a data set on the hub.
        text, label: the columns of the documents and of their labels.
        split: the column of the split; empty for the names of the files.
        attributes: further columns to read.
        most: at most so many documents of each label and split, the first ones; None for all.
        patterns: the files of a folder, and of a data set on the hub, to read.

    Returns:
        The Task, without documents that are blank.

    Raises:
        ValueError: for a bad record, naming the file, the line and the column, and for no document.
        FileNotFoundError: for a path that does not exist.
    """
    columns = list(dict.fromkeys((text, label, *((split,) if split else ()), *attributes)))
    rows: list[tuple[str, ...]] = []
    seen: Counter = Counter()
    for path in files(source, patterns):
        for one in records(path, columns):
            side = _side(one, split) if split else _named(path)
            words, of = one.value(text), one.value(label)
            if side != "" and words.strip():
                seen[of, side] += 1
                if most is None or seen[of, side] <= most:
                    rows.append((words, of, side or "", *map(one.value, attributes)))
    return _task(source, rows, attributes)


def _named(path: Path) -> str | None:
    """The split that the name of a file says: "" for one that is left out, None for no split."""
    return SPLITS.get(path.name.lower().replace(".", "-").replace("_", "-").split("-")[0])


def _side(one: Record, column: str) -> str:
    """The split of a record."""
    found = one.value(column)
    if found.lower() not in SPLITS:
        raise ValueError(
            f"{one.where}, column {column!r}: {found!r} is no split; there are {', '.join(SPLITS)}."
        )
    return SPLITS[found.lower()]


def _task(source: str | Path, rows: Sequence[tuple[str, ...]], attributes: Sequence[str]) -> Task:
    """The task of rows (text, label, split or "", attributes). Raises ValueError for none, and if some have a
    split and others have none."""
    if not rows:
        raise ValueError(f"{str(source)!r} holds no document with a label.")
    text, label, split, *others = zip(*rows, strict=True)
    split_S = np.array(split)
    if (split_S == "").any() and (split_S != "").any():
        raise ValueError(f"{str(source)!r} has documents with a split, and others without one.")
    columns = {name: np.array(each) for name, each in zip(attributes, others, strict=True)}
    return Task(text, np.array(label), split_S if split[0] else None, columns)
