"""Entities, their attributes, and prompts that ask for them (SAEBench; Huang et al. 2024, RAVEL).

SAEBench's are city (Country, Continent, Language) and nobel_prize_winner (Country of Birth, Field, Gender).

Source: the data set `adamkarvonen/ravel_prompts` of the hub.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dictlearn.lm import hub
from dictlearn.tasks import _entities
from dictlearn.tasks._task import Task


def ravel_prompts(
    *,
    source: str | Path = "adamkarvonen/ravel_prompts",
    entities: str = "city",
    attributes: Sequence[str] = ("Country", "Continent", "Language"),
    n_entities: int = 0,
    n_templates: int = 0,
) -> Task:
    """Reads the prompts.

    Args:
        source: the name of the data set on the hub, or a folder with its JSON files.
        entities: the kind of entities.
        attributes: the attributes to ask for.
        n_entities, n_templates: the first so many, of all and of each attribute; 0 for all.

    Returns:
        The Task, whose labels are the attributes that are asked for, with the attributes "entity" and "value".

    Raises:
        ValueError: for a broken file, and for an attribute that the data set does not have.
        FileNotFoundError: for a path that does not exist.
    """
    if not Path(source).exists() and hub.is_hub_name(str(source)):
        library = hub.library(f"download the data set {str(source)!r}")
        source = library.snapshot_download(
            str(source), repo_type="dataset", allow_patterns=[f"ravel_{entities}_*.json"]
        )
    read = lambda part, kind: _object(Path(source) / f"ravel_{entities}_{part}.json", kind)
    templates, values = read("attribute_to_prompts", list), read("entity_attributes", dict)
    if missing := [one for one in attributes if one not in templates]:
        there = ", ".join(templates)
        raise ValueError(f"{str(source)!r} asks for no {missing[0]!r}; there are {there}.")
    chosen = {one: templates[one][: n_templates or None] for one in attributes}
    some = dict(list(values.items())[: n_entities or None])
    return _entities.task(str(source), chosen, some)


def _object(path: Path, kind: type) -> dict[str, Any]:
    """The object of a JSON file, whose values are lists or objects of text."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error}).") from error
    inner = lambda one: one.values() if isinstance(one, dict) else one
    is_text = lambda one: isinstance(one, kind) and all(isinstance(x, str) for x in inner(one))
    if not isinstance(found, dict) or not all(map(is_text, found.values())):
        raise ValueError(f"{path}: not an object of {kind.__name__}s of text.")
    return found
