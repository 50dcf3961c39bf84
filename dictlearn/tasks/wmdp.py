"""Questions on hazardous knowledge: biology, chemistry, cyber security (SAEBench; Li et al. 2024, WMDP).

Source: the data set `cais/wmdp` of the hub.
"""

from pathlib import Path

from dictlearn.tasks import _choices
from dictlearn.tasks._records import files
from dictlearn.tasks._task import Task

_FOLDERS = {
    "wmdp-bio": "biology",
    "wmdp-chem": "chemistry",
    "wmdp-cyber": "cyber security",
}


def wmdp(*, source: str | Path = "cais/wmdp") -> Task:
    """Reads the questions.

    Args:
        source: the name of the data set on the hub, or a folder with its folders `wmdp-bio`, ...

    Returns:
        The Task, whose documents are the questions and whose labels are their subjects.

    Raises:
        ValueError: for a bad record, naming the file and the column, and for no question.
        FileNotFoundError: for a path that does not exist.
    """
    found = [
        row
        for path in files(source, [f"{folder}/*" for folder in _FOLDERS])
        if path.parent.name in _FOLDERS
        for row in _choices.rows(path, _FOLDERS[path.parent.name])
    ]
    return _choices.task(source, found)
