"""Prompts as text files: NAME.VERSION.txt, of which a changed one gets a new version.

    ### system
    You judge ...
    ### user
    Description: $explanation

begins a message of that role; `$words` are filled in. The name, the version and the sha256 are recorded with
every result that a prompt was used for.
"""

import hashlib
import re
from functools import cache
from importlib import resources
from string import Template
from typing import NamedTuple

_ROLE = re.compile(r"^### (system|user|assistant)\n", re.MULTILINE)


class Prompt(NamedTuple):
    """A conversation to fill in. label: its name, version and the beginning of its sha256."""

    label: str
    messages: tuple[tuple[str, str], ...]

    def fill(self, **words: str) -> tuple[tuple[str, str], ...]:
        """The messages with these words. Raises KeyError for a word that the prompt has and is not given."""
        return tuple((role, Template(text).substitute(words)) for role, text in self.messages)


@cache
def load(name: str, version: int | None = None) -> Prompt:
    """A prompt.

    Args:
        name: its name.
        version: its version; None for the newest.

    Returns:
        The prompt.

    Raises:
        ValueError: for an unknown prompt or version; the message lists the known ones.

    Example:
        >>> load("detection").messages[0][0]
        'system'
    """
    known = versions(name)
    chosen = version or max(known, default=0)
    if chosen not in known:
        there = ", ".join(map(str, known)) or "none"
        raise ValueError(f"the prompt {name!r} has no version {version}; there are {there}.")
    raw = (resources.files(__name__) / f"{name}.{chosen}.txt").read_bytes()
    _, *parts = _ROLE.split(raw.decode("utf-8"))
    messages = tuple(zip(parts[::2], (text.strip() for text in parts[1::2]), strict=True))
    return Prompt(f"{name}.{chosen} {hashlib.sha256(raw).hexdigest()[:12]}", messages)


def versions(name: str) -> list[int]:
    """The versions of a prompt."""
    files = (file.name for file in resources.files(__name__).iterdir())
    matches = (re.fullmatch(rf"{re.escape(name)}\.(\d+)\.txt", file) for file in files)
    return sorted(int(match[1]) for match in matches if match)
