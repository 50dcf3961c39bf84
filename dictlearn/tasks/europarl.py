"""The language of speeches in the European Parliament: en, fr, de, es, nl (SAEBench; Koehn 2005).

Each language is read from one pair of languages, as SAEBench reads it.

Source: the data set `Helsinki-NLP/europarl` of the hub.
"""

from pathlib import Path

import numpy as np

from dictlearn.tasks._records import files, records
from dictlearn.tasks._task import Task

_PAIRS = {"en": "en-fr", "fr": "fr-it", "de": "de-en", "es": "es-fr", "nl": "nl-pt"}


def europarl(*, source: str | Path = "Helsinki-NLP/europarl", most: int = 5000) -> Task:
    """Reads the speeches.

    Args:
        source: the name of the data set on the hub, or a folder with its folders `en-fr`, `fr-it`, ...
        most: so many documents of each language, the first ones.

    Returns:
        The Task, without a split.

    Raises:
        ValueError: for a bad record, naming the file and the column.
        FileNotFoundError: for a path that does not exist.
    """
    text: list[str] = []
    label: list[str] = []
    for language, pair in _PAIRS.items():
        own = [path for path in files(source, [f"{pair}/*"]) if path.parent.name == pair]
        if not own:
            raise FileNotFoundError(f"{str(source)!r} has no folder {pair!r} with files.")
        column = f"translation.{language}"
        rows = (one.value(column) for path in own for one in records(path, [column]))
        found = [words for words, _ in zip(filter(str.strip, rows), range(most), strict=False)]
        text += found
        label += [language] * len(found)
    return Task(tuple(text), np.array(label))
