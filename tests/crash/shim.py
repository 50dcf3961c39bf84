"""The shim: built, the environment that sets it, and what its trace tells."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("shim.c")
BEHIND = 3600
"""Seconds by which `clock` sets the clock back."""
MODES = ("kill", "tear", "eio", "full", "clock")
"""How a change goes wrong; see `shim.c`."""


def compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "cc"))


def build(folder: Path) -> Path:
    """The compiled library in the folder."""
    library, cc = folder / "shim.so", compiler()
    if cc is None:
        raise FileNotFoundError("no C compiler: set CC, or install one as cc.")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([cc, *flags, "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


def settings(folder: Path, trace: Path, at: int = 0, mode: str = "kill", only: str = "") -> dict:
    """What the environment holds so that the `at`-th change in the folder goes wrong."""
    found = {"CRASH_FOLDER": str(folder.resolve()), "CRASH_TRACE": str(trace)}
    found |= {"CRASH_AT": str(at), "CRASH_MODE": mode}
    return found | ({"CRASH_ONLY": only} if only else {})


class Change(NamedTuple):
    """One line of a trace. length: of a file that is synced, in bytes."""

    call: str
    path: Path
    new: Path | None = None
    length: int = 0


def told(trace: Path) -> list[Change]:
    """The changes of a trace, in order; none where no change was made."""
    lines = trace.read_text().splitlines() if trace.exists() else []
    return [_change(*line.split("\t")[1:]) for line in lines]


def _change(call: str, path: str, new: str, length: str) -> Change:
    return Change(call, Path(path), Path(new) if new else None, int(length))
