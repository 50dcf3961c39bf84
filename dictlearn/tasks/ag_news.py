"""The subject of news: 0 world, 1 sports, 2 business, 3 science and technology (SAEBench; Zhang et al. 2015).

Source: the data set `fancyzhx/ag_news` of the hub.
"""

from pathlib import Path

from dictlearn.tasks._files import read
from dictlearn.tasks._task import Task


def ag_news(*, source: str | Path = "fancyzhx/ag_news", most: int | None = None) -> Task:
    """Reads the news.

    Args:
        source: the name of the data set on the hub, or a file or a folder of its records.
        most: at most so many documents of each label and split; None for all.

    Returns:
        The Task.

    Raises:
        ValueError: for a bad record, naming the file and the column.
        FileNotFoundError: for a path that does not exist.
    """
    return read(source, most=most)
