"""`dictlearn events`: every active code of a dictionary on a text, as an event cache; other verbs read it."""

import dataclasses
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from dictlearn import events as cache
from dictlearn.analyses import Subject
from dictlearn.analyses._events import folder, rows
from dictlearn.analyses.examples import chosen
from dictlearn.cli import published
from dictlearn.cli.progress import Progress
from dictlearn.experiment.stream import origin
from dictlearn.runs.trained import Site, Trained

FLAGS = {
    **published.FLAGS,
    "--name": {
        "metavar": "NAME",
        "help": "a dictionary of the run; default the one with the largest explained variance",
    },
    "--n_tokens": {"type": int, "metavar": "N", "help": "tokens of the text; default all"},
}


def events(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Writes workdir/events/NAME."""
    subject, dictionary = dictionary_of(config, workdir, arguments)
    cached(subject, dictionary, workdir, arguments)
    print(f"events: {folder(workdir, dictionary)}")


def dictionary_of(config: Mapping, workdir: Path, arguments: Namespace) -> tuple[Subject, Trained]:
    """The dictionary that the arguments name, in a subject that knows its model and its stream.

    Raises ValueError for an unknown name, and for other data than the run was trained on.
    """
    subject, dictionary = named(config, workdir, arguments)
    if not arguments.dictionary:
        subject.check_data()
    return subject, dictionary


def named(config: Mapping, workdir: Path, arguments: Namespace) -> tuple[Subject, Trained]:
    """The same without a look at the data of the run."""
    own, allowed = arguments.dictionary, arguments.allow_changed
    given = [own] if own else []
    subject = Subject(workdir.name, workdir, given, setup=config, allow_changed=allowed)
    dictionary = own or chosen(subject, arguments.name or "")
    if not dictionary.sites:
        sites = tuple(map(Site.at, origin(config) or ()))
        dictionary = dataclasses.replace(dictionary, sites=sites)
    return subject, dictionary


def cached(
    subject: Subject, dictionary: Trained, workdir: Path, arguments: Namespace
) -> cache.Events:
    """The event cache of a dictionary, written first where it does not exist."""
    path = folder(workdir, dictionary)
    found = rows_of(subject, arguments)
    with Progress("events", "tokens") as progress:
        cache.write(cache.job(dictionary, found, progress), path)
    return cache.read(path)


def rows_of(subject: Subject, arguments: Namespace) -> cache.Rows:
    """The rows of the text that the arguments name."""
    return rows(subject, arguments.n_tokens, whole=bool(arguments.dictionary))
