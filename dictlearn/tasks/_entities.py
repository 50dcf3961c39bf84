"""Prompts that ask for an attribute of an entity: a task whose documents are the prompts, whose labels are the
attributes that they ask for, and whose attributes are the "entity" and the "value" that is right.

    {"text": "Oslo is on the continent of", "label": "Continent", "entity": "Oslo", "value": "Europe"}
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from dictlearn.tasks._task import Task

HOLE = "%s"
"""Where a template has the entity."""


def task(
    source: str, templates: Mapping[str, Sequence[str]], entities: Mapping[str, Mapping[str, str]]
) -> Task:
    """Every template about every entity.

    Args:
        source: the name of the data set, for the message.
        templates: {attribute: texts with one HOLE}; others are left out.
        entities: {entity: {attribute: value}}; an empty value is left out.

    Returns:
        The Task, without a split.

    Raises:
        ValueError: for no prompt.
    """
    found = list(_rows(templates, entities))
    if not found:
        raise ValueError(f"{source!r} has no template with one {HOLE!r} for a value of an entity.")
    text, label, entity, value = zip(*found, strict=True)
    own = {"entity": np.array(entity), "value": np.array(value)}
    return Task(text, np.array(label), attributes=own)


def _rows(
    templates: Mapping[str, Sequence[str]], entities: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, str, str, str]]:
    for name, texts in templates.items():
        whole = [text for text in texts if text.count(HOLE) == 1]
        for (entity, own), text in product(entities.items(), whole):
            if value := own.get(name, ""):
                yield text.replace(HOLE, entity), name, entity, value
