"""The category of products, or the rating, of Amazon reviews with one or five stars (SAEBench).

SAEBench's classes: categories (1, 2, 3, 5, 6); ratings (1.0, 5.0).

Source: the data set `canrager/amazon_reviews_mcauley_1and5` of the hub.
"""

from pathlib import Path

from dictlearn.tasks._files import read
from dictlearn.tasks._task import Task

_COLUMNS = ("category", "rating")


def amazon_reviews(
    *,
    source: str | Path = "canrager/amazon_reviews_mcauley_1and5",
    label: str = "category",
    most: int | None = None,
) -> Task:
    """Reads the reviews.

    Args:
        source: the name of the data set on the hub, or a file or a folder of its records.
        label: "category", or "rating" for the sentiment.
        most: at most so many documents of each label and split; None for all.

    Returns:
        The Task, with the other column as an attribute.

    Raises:
        ValueError: for another label, and for a bad record, naming the file and the column.
        FileNotFoundError: for a path that does not exist.
    """
    if label not in _COLUMNS:
        raise ValueError(f"{label=} must be one of {', '.join(_COLUMNS)}.")
    others = tuple(one for one in _COLUMNS if one != label)
    return read(source, label=label, attributes=others, most=most)
