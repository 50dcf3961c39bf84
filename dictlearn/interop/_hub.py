"""Dictionaries by their names on the hub: owner/name, or owner/name/folder for one of several.

A repository may hold thousands of dictionaries. Its files are listed first, and only the files of one
dictionary are downloaded. A revision follows an "@": owner/name/folder@revision.
"""

import contextlib
import glob
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dictlearn.interop import _foreign
from dictlearn.lm import hub

_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/([^@]+?))?/?(?:@([\w./-]+))?")
SHOWN = 8
"""How many dictionaries of a repository a message lists."""


class Name(NamedTuple):
    """repo: "owner/name". inner: a folder or a file in it, "" for its root. revision: None for the newest."""

    repo: str
    inner: str
    revision: str | None


def name_of(text: str) -> Name | None:
    """The parts of a name on the hub; None for any other text, such as an absolute path, a path with `..`, or
    a file of arrays in a folder."""
    found = _NAME.fullmatch(text)
    if found is None or ".." in PurePosixPath(text).parts:
        return None
    repo, inner, revision = found.groups()
    if not inner and _holds_arrays(repo):
        return None
    return Name(repo, inner or "", revision)


def fetch(name: Name) -> Path:
    """Downloads one dictionary, unless it is in the cache; returns its file or folder.

    Raises FileNotFoundError where there is none, ValueError where there are several, naming some, and
    ImportError without `huggingface_hub`.
    """
    api = hub.library(f"fetch {name.repo!r}").HfApi()
    with _told(name):
        about = api.model_info(name.repo, revision=name.revision)
        listed = [str(file.rfilename) for file in about.siblings or ()]
    place = _one(listed, name)
    wanted = [glob.escape(file) for file in listed if _belongs(file, place)]
    with _told(name):
        folder = api.snapshot_download(name.repo, revision=name.revision, allow_patterns=wanted)
    return Path(folder) / place


@contextlib.contextmanager
def _told(name: Name) -> Iterator[None]:
    """Raises FileNotFoundError with the hub's reason; its library raises the errors of three other
    libraries."""
    try:
        yield
    except Exception as error:
        path = "/".join(filter(None, name[:2]))
        raise FileNotFoundError(
            f"{path} does not exist here, and cannot be fetched from the hub: {hub.reason(error)}"
        ) from error


def _one(listed: list[str], name: Name) -> str:
    """The only dictionary at a name: a file of arrays, or the folder that has it."""
    if name.inner in listed:
        return name.inner
    places = sorted({_place(file, listed) for file in listed if _holds_arrays(file)})
    below = [place for place in places if _within(place, name.inner)]
    exact = [place for place in below if place == name.inner]
    if len(exact or below) == 1:
        return (exact or below)[0]
    if not below:
        raise ValueError(
            f"{name.repo} holds no dictionary at {name.inner or 'its root'}"
            + (f"; it holds {_some(places)}." if places else ".")
        )
    raise ValueError(
        f"{name.repo} holds {len(below)} dictionaries; name one, as {name.repo}/{below[0]}. There are "
        f"{_some(below)}."
    )


def _place(file: str, listed: list[str]) -> str:
    """The path of the dictionary in a file of arrays: its folder, or the file if the folder holds several."""
    parent = _parent(file)
    there = [other for other in listed if _parent(other) == parent]
    arrays = [other for other in there if _holds_arrays(other)]
    told = [other for other in there if PurePosixPath(other).suffix in (".yaml", ".json")]
    described = any(PurePosixPath(other).name not in ("index.json", "run.json") for other in told)
    return parent if described or len(arrays) == 1 else file


def _holds_arrays(file: str) -> bool:
    return PurePosixPath(file).suffix in _foreign.ARRAYS


def _belongs(file: str, place: str) -> bool:
    return file == place or _parent(file) == place


def _parent(file: str) -> str:
    found = str(PurePosixPath(file).parent)
    return "" if found == "." else found


def _within(place: str, inner: str) -> bool:
    return not inner or place == inner or place.startswith(f"{inner}/")


def _some(places: list[str]) -> str:
    more = len(places) - SHOWN
    return ", ".join(places[:SHOWN]) + (f" and {more} more" if more > 0 else "")
