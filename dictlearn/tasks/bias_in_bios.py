"""The profession of short biographies, with the gender of the person (SAEBench; De-Arteaga et al. 2019).

SAEBench's three sets of classes are (0, 1, 2, 6, 9), (11, 13, 14, 18, 19) and
(20, 21, 22, 25, 26), numbered as in NAMES.

Source: the data set `LabHC/bias_in_bios` of the hub.
"""

from pathlib import Path

import numpy as np

from dictlearn.tasks._files import read
from dictlearn.tasks._task import Task

NAMES = (
    *("accountant", "architect", "attorney", "chiropractor", "comedian", "composer", "dentist"),
    *("dietitian", "dj", "filmmaker", "interior_designer", "journalist", "model", "nurse"),
    *("painter", "paralegal", "pastor", "personal_trainer", "photographer", "physician", "poet"),
    *("professor", "psychologist", "rapper", "software_engineer", "surgeon", "teacher"),
    "yoga_teacher",
)


def bias_in_bios(*, source: str | Path = "LabHC/bias_in_bios", most: int | None = None) -> Task:
    """Reads the biographies.

    Args:
        source: the name of the data set on the hub, or a file or a folder of its records.
        most: at most so many documents of each profession and split; None for all.

    Returns:
        The Task, whose labels are the numbers of the professions, with the attribute "gender" (male, female).

    Raises:
        ValueError: for a bad record, naming the file and the column.
        FileNotFoundError: for a path that does not exist.
    """
    columns = {"text": "hard_text", "label": "profession", "attributes": ("gender",)}
    found = read(source, **columns, most=most)
    gender_S = np.where(found.attributes["gender"] == "0", "male", "female")
    return found._replace(attributes={"gender": gender_S})
