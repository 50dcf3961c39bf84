"""Prints the newest Python from 3.12 on, of those on the PATH and of pyenv's, that is newer than the one which
runs this; prints nothing where there is none."""

import os
import subprocess
import sys
from pathlib import Path

ASK = "import ensurepip, sys, venv; print(*sys.version_info[:3], sys.version_info.releaselevel)"


def version(python: Path) -> tuple[int, ...]:
    """Of a Python that starts, makes environments and is a release; else ()."""
    done = subprocess.run([python, "-c", ASK], capture_output=True, text=True)
    *numbers, level = done.stdout.split() or [""]
    return tuple(map(int, numbers)) if level == "final" else ()


pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
folders = map(Path, os.environ["PATH"].split(os.pathsep))
found = [python for folder in folders for python in folder.glob("python3.[0-9][0-9]")]
found += pyenv.glob("versions/3.*/bin/python3")
best, python = max(((version(python), python) for python in found), default=((), None))
if best >= (3, 12) and best[:2] > sys.version_info[:2]:
    print(python)
