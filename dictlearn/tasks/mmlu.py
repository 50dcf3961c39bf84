"""Exam questions on many subjects (SAEBench; Hendrycks et al. 2021, MMLU).

Source: the data set `cais/mmlu` of the hub.
"""

from collections.abc import Sequence
from pathlib import Path

from dictlearn.tasks import _choices
from dictlearn.tasks._records import files
from dictlearn.tasks._task import Task


def mmlu(
    *,
    source: str | Path = "cais/mmlu",
    subjects: Sequence[str] = (
        "high_school_us_history",
        "college_computer_science",
        "high_school_geography",
        "human_aging",
    ),
) -> Task:
    """Reads the test questions.

    Args:
        source: the name of the data set on the hub, or a folder with a folder for each subject.
        subjects: the subjects, as the data set names them; the default is SAEBench's.

    Returns:
        The Task, whose documents are the questions and whose labels are their subjects.

    Raises:
        ValueError: for a bad record, naming the file and the column, and for no question.
        FileNotFoundError: for a path that does not exist.
    """
    found = [
        row
        for path in files(source, [f"{one}/test*" for one in subjects])
        if path.parent.name in subjects and path.name.startswith("test")
        for row in _choices.rows(path, path.parent.name.replace("_", " "))
    ]
    return _choices.task(source, found)
