"""Finds the formats, the files of this folder without a leading underscore, and dictionaries on the disk."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from dictlearn.interop import _foreign, _hub, _torch_file


def names() -> list[str]:
    """The names of all formats: the files of this folder.

    Returns:
        The names in alphabetical order.

    Example:
        >>> {"npz", "safetensors"} <= set(names())
        True
    """
    folder = importlib.import_module(__package__ or "").__path__
    found = (module.name for module in pkgutil.iter_modules(folder))
    return sorted(name for name in found if not name.startswith("_"))


def format_of(name: str) -> ModuleType:
    """The module of a format.

    Args:
        name: a format, of `names()`.

    Returns:
        The module.

    Raises:
        ValueError: for an unknown format; the message lists the known ones.
    """
    if name not in names():
        raise ValueError(f"unknown format {name!r}; the formats are {', '.join(names())}.")
    return importlib.import_module(f"{__package__}.{name}")


def recognised(path: Path) -> str | None:
    """Recognises the format of a file or a folder.

    Args:
        path: the file or the folder.

    Returns:
        The name of the format; None if no format recognises it.
    """
    return next((name for name in names() if format_of(name).recognises(path)), None)


def library(format: str) -> tuple[str, str] | None:
    """The library that loads a format from the hub.

    Args:
        format: one of `names()`.

    Returns:
        (its title, the code with {repo} and {path}); None if no other library loads the format from the hub.
    """
    return vars(format_of(format)).get("LIBRARY")


def here(path: str | Path) -> Path:
    """The path; for a name on the hub, the path of its download."""
    named = None if Path(path).exists() else _hub.name_of(str(path))
    path = Path(path) if named is None else _hub.fetch(named)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; `dictlearn export` writes dictionaries.")
    return path


def one(path: Path) -> tuple[Path, str | None]:
    """(the path, or the only file of arrays in it; its format, None if no format recognises it)."""
    name = recognised(path)
    if name is None and (lone := _lone(path)):
        return lone, recognised(lone)
    return path, name


def _lone(path: Path) -> Path | None:
    """The only file of arrays in a folder."""
    inside = path.iterdir() if path.is_dir() else ()
    arrays = [each for each in inside if each.suffix in _foreign.ARRAYS]
    return arrays[0] if len(arrays) == 1 else None


def every(path: Path) -> Iterator[tuple[Path, str]]:
    """The dictionaries in a folder and their formats, in the order of their names, numbers by their value."""
    if name := recognised(path):
        yield path, name
    elif path.is_dir() and not path.is_symlink():
        for inside in sorted(path.iterdir(), key=_by_number):
            yield from every(inside)


def _by_number(path: Path) -> list[str | int]:
    """Orders a 10 after a 9."""
    return [int(t) if t.isdecimal() else t for t in re.split(r"(\d+)", path.name)]


def unknown(path: Path) -> str:
    """Says that a path is no dictionary, and why."""
    n = sum(1 for one in path.iterdir() if recognised(one)) if path.is_dir() else 0
    if n > 1:
        return f"{path} holds {n} dictionaries; name one of them, or load them with load_all."
    return f"{path} is not in a known format{_why(path)}; the formats are {', '.join(names())}."


def _why(path: Path) -> str:
    """The fault of a file of arrays that no format recognises; "" if it has none."""
    try:
        if _torch_file.is_torch(path):
            _torch_file.read(path)
        elif path.suffix in _foreign.ARRAYS and path.is_file():
            _foreign.shapes(path)
    except ValueError as error:
        return f": {str(error).rstrip('.')}"
    return ""
