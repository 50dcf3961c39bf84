"""A task: documents with their labels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

TRAIN, TEST = "train", "test"
SPLITS = {"train": TRAIN, "test": TEST, "validation": "", "valid": "", "val": "", "dev": ""}
"""The splits by the names that data sets have for them; documents for validation are left out."""


class Task(NamedTuple):
    """Documents with their labels.

    Args:
        text: the documents.
        label_S: the label of each, a string.
        split_S: "train" or "test" for each; None where the data set has no split.
        attributes: further values of each document, by name, as strings.

    Example:
        >>> task = Task(("Oslo", "iron"), np.array(["city", "metal"]))
        >>> task.of(["metal"]).text
        ('iron',)
    """

    text: tuple[str, ...]
    label_S: np.ndarray
    split_S: np.ndarray | None = None
    attributes: Mapping[str, np.ndarray] = {}

    @property
    def counts(self) -> dict[str, int]:
        """The number of documents of each label, the most frequent first, then by name."""
        found = Counter(self.label_S.tolist()).items()
        return dict(sorted(found, key=lambda pair: (-pair[1], pair[0])))

    def of(self, classes: Sequence[str | int | float] | int) -> "Task":
        """The documents of these labels; of so many labels, the most frequent, for a number; all for ().

        Raises ValueError for labels that do not occur.
        """
        there = list(self.counts)
        wanted = there[:classes] if isinstance(classes, int) else [str(one) for one in classes]
        wanted = wanted or there
        if missing := [one for one in wanted if one not in there]:
            raise ValueError(f"no document has the label {missing[0]!r}; there are {there}.")
        if isinstance(classes, int) and not 0 < classes <= len(there):
            raise ValueError(f"classes={classes} must be in 1..{len(there)}, the labels there are.")
        return self.where(np.isin(self.label_S, wanted))

    def where(self, kept_S: np.ndarray) -> "Task":
        """The documents where a mask is True."""
        text = tuple(self.text[s] for s in np.flatnonzero(kept_S))
        split_S = None if self.split_S is None else self.split_S[kept_S]
        attributes = {name: value_S[kept_S] for name, value_S in self.attributes.items()}
        return Task(text, self.label_S[kept_S], split_S, attributes)
