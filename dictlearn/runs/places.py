"""The paths in a config, stored so that a run can be moved together with the files in it.

A place is the value of a key `path`, `paths`, `text` or `workdir`, or of a key that ends in `_path`. A path
inside the workdir of the run is stored relative to it, as "{workdir}/activations"; others are stored unchanged.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dictlearn.experiment import values
from dictlearn.runs.workdir import read_json, write_json

HERE = "{workdir}"
_KEY = re.compile(r"(.*\.)?(\w+_)?(path|paths|text|workdir)")


def is_place(key: str) -> bool:
    """Whether the value of a key, dotted or not, is a path."""
    return _KEY.fullmatch(key) is not None


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same path, in any spelling."""
    strings = isinstance(a, str) and isinstance(b, str)
    return a == b or (strings and os.path.realpath(a) == os.path.realpath(b))


def kept(config: Mapping, workdir: Path) -> dict:
    """The config with the paths inside the workdir relative to it."""

    def relative(place: str) -> str:
        for spelt in (os.path.abspath, os.path.realpath):
            inside = os.path.relpath(spelt(place), spelt(workdir))
            if os.path.exists(place) and inside.split(os.sep)[0] not in (".", ".."):
                return f"{HERE}/{inside}"
        return place

    return _each(values.to_json(config), relative)


def found(config: Mapping, workdir: Path) -> dict:
    """The inverse of `kept`, for the current workdir."""
    here = lambda place: re.sub(f"^{re.escape(HERE)}(?=/)", lambda _: str(workdir), place)
    return values.from_json(_each(config, here))


def write_config(config: Mapping, workdir: Path) -> None:
    write_json(workdir / "config.json", kept(config, workdir))


def read_config(workdir: str | Path) -> dict:
    """The config of a run. Raises FileNotFoundError without one."""
    return found(read_json(Path(workdir) / "config.json", "dictlearn train"), Path(workdir))


def shared(workdir: str | Path) -> dict:
    """The config of a run for publication, in the form for JSON; paths are reduced to their last names."""
    return _each(
        read_json(Path(workdir) / "config.json", "dictlearn train"), lambda place: Path(place).name
    )


def _each(tree: Any, change: Callable[[str], str], key: str = "") -> Any:
    """The tree with every path changed."""
    if isinstance(tree, Mapping):
        return {key: _each(value, change, key) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_each(value, change, key) for value in tree]
    return change(tree) if isinstance(tree, str) and is_place(key) else tree
