"""The event cache of a run: which text it is of, where it is, and the one that analyses read."""

import hashlib
import json
import re
from pathlib import Path

from dictlearn import events
from dictlearn.analyses._subject import Subject
from dictlearn.events import cache, writer
from dictlearn.experiment.stream import origin
from dictlearn.runs.trained import Trained


def rows(subject: Subject, n_tokens: int | None = None, whole: bool = False) -> events.Rows:
    """The rows of the run's store; where it has none, the model runs over the text.

    n_tokens: tokens of the text; None for all. whole: whether documents that the run held out are read too.
    Raises ValueError for a stream that is not of one language model.
    """
    config = subject.config
    found = origin(config) or ()
    if len(found) != 1 or found[0].scales:
        raise ValueError(
            f"config.stream of {subject.name} has no rows of one language model; events need its text."
        )
    (site,) = found
    if site.path is not None:
        return events.of_store(site.path, site.read, n_tokens)
    left_out = {"taps", "held_out"} if whole else {"taps"}
    recipe = {key: value for key, value in config["harvest"].items() if key not in left_out}
    recipe |= {"n_tokens": n_tokens} if n_tokens else {}
    return events.of_text(subject.lm, site.read, **{"seed": config["seed"], **recipe})


def folder(workdir: Path, dictionary: Trained) -> Path:
    """The folder of the event cache of a dictionary."""
    return workdir / "events" / safe(dictionary.name)


def safe(name: str) -> str:
    """A name of a dictionary as the name of a file."""
    return re.sub(r"[^\w+-]+", "_", name).strip("_") or "dictionary"


def cached(subject: Subject, dictionary: Trained) -> events.Events:
    """The event cache of a dictionary of a run, of however much text; written first where it does not exist.

    Raises ValueError for a cache of another dictionary.
    """
    path = folder(subject.workdir, dictionary)
    if not (path / cache.MANIFEST).is_file():
        events.write(events.job(dictionary, rows(subject)), path)
    found = events.read(path)
    if found.recipe["dictionary"] != writer.identity(dictionary):
        raise ValueError(f"{path} is the event cache of another dictionary; remove it.")
    return found


def identity(found: events.Events) -> dict[str, str]:
    """{"dictionary", "text"}, which differ for another dictionary, and for another text or model."""
    text = json.dumps([found.recipe["tap"], found.recipe["rows"]], sort_keys=True)
    return {
        "dictionary": found.recipe["dictionary"],
        "text": hashlib.sha256(text.encode()).hexdigest(),
    }
