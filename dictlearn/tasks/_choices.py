"""Multiple-choice questions: a task whose documents are questions, whose labels are their subjects, and whose
attributes are the options "A" to "D" and the letter of the "answer".

    {"question": "Is it a metal?", "choices": ["iron", "plum", "wolf", "red"], "answer": 0, "subject": "metal"}
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dictlearn.tasks._records import Record, records
from dictlearn.tasks._task import Task

LETTERS = ("A", "B", "C", "D")
Row = tuple[str, str, tuple[str, ...], str]
"""(question, subject, options, the letter of the answer)."""


def rows(path: Path, subject: str = "") -> list[Row]:
    """The questions of a file of JSON lines or Parquet.

    Args:
        path: the file.
        subject: the subject of all its questions; empty for the column "subject".

    Returns:
        A row for each question.

    Raises:
        ValueError: for a bad record, naming the file, the line and the column.
    """
    columns = ["question", "choices", "answer", *(() if subject else ("subject",))]
    return [
        (one.value("question"), subject or one.value("subject"), _options(one), _letter(one))
        for one in records(path, columns)
    ]


def _options(one: Record) -> tuple[str, ...]:
    found = one.get("choices")
    if not isinstance(found, list) or len(found) != len(LETTERS):
        raise ValueError(f"{one.where}, column 'choices': {found!r}, not a list of four options.")
    return tuple(map(str, found))


def _letter(one: Record) -> str:
    """The letter of the answer, which is a letter or a place from 0."""
    found = one.value("answer")
    places = {str(i): letter for i, letter in enumerate(LETTERS)}
    if found not in LETTERS and found not in places:
        raise ValueError(f"{one.where}, column 'answer': {found!r}; it is A to D, or 0 to 3.")
    return places.get(found, found)


def task(source: str | Path, found: Sequence[Row]) -> Task:
    """The task of rows. Raises ValueError for none."""
    if not found:
        raise ValueError(f"{str(source)!r} holds no question.")
    text, subject, options, answer = zip(*found, strict=True)
    columns = dict(zip(LETTERS, np.array(options).T, strict=True))
    return Task(text, np.array(subject), attributes={**columns, "answer": np.array(answer)})
