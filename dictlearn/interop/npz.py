"""NumPy archives of the complete layout (interop/_layout.py), with the header as the string `header`.

with np.load(path) as f:
    pre_BF = (x_BD - f["b_dec"]) @ f["W_enc"] + f["b_enc"]
"""

import json
import zipfile
from pathlib import Path

import numpy as np

from dictlearn import files
from dictlearn.interop import _foreign, _layout
from dictlearn.runs.trained import Trained

SUFFIX = ".npz"
LEAVES = None


def recognises(path: Path) -> bool:
    """Whether a path is a NumPy archive with a header.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    if not (path.is_file() and zipfile.is_zipfile(path)):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return "header.npy" in archive.namelist()
    except files.DAMAGE:
        return False


def load(path: Path) -> Trained:
    """Loads the dictionary in the archive.

    Args:
        path: the archive.

    Returns:
        A Trained.

    Raises:
        ValueError: for an array that is not in the header.
    """
    try:
        shapes = _foreign.npz_headers(path)
        shapes.pop("header")
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"]))
            return _layout.unpack(header, shapes, archive.__getitem__)
    except files.DAMAGE as error:
        raise ValueError(str(error)) from error


def save(trained: Trained, path: Path) -> None:
    """Writes an archive.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary whose class is not in dictionaries/.
    """
    header, arrays = _layout.pack(trained)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, header=np.array(json.dumps(header)), **arrays)
