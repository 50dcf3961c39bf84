"""Multiple-choice questions of a file of your own (tasks/_choices.py).

{"question": "Is it a metal?", "choices": ["iron", "plum", "wolf", "red"], "answer": 0, "subject": "metal"}
"""

from pathlib import Path

from dictlearn.tasks import _choices
from dictlearn.tasks._records import files
from dictlearn.tasks._task import Task


def multiple_choice(*, source: str | Path) -> Task:
    """Reads the questions.

    Args:
        source: a file of JSON lines or Parquet, a folder or a glob of them, or a data set of the hub.

    Returns:
        The Task, whose documents are the questions and whose labels are their subjects.

    Raises:
        ValueError: for a bad record, naming the file, the line and the column.
        FileNotFoundError: for a path that does not exist.
    """
    found = files(source, ["*.jsonl", "*.parquet"])
    return _choices.task(source, [row for path in found for row in _choices.rows(path)])
