"""safetensors files of the complete layout (interop/_layout.py), with the header in the metadata as
`dictlearn`.
"""

from pathlib import Path

from dictlearn.interop import _note, _tensors
from dictlearn.runs.trained import Trained

SUFFIX = ".safetensors"
LEAVES = None


def recognises(path: Path) -> bool:
    """Whether a path is a file with our header in its metadata.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    return path.suffix == SUFFIX and path.is_file() and _note.ours(path)


def load(path: Path) -> Trained:
    """Loads the dictionary in the file.

    Args:
        path: the file.

    Returns:
        A Trained.

    Raises:
        ValueError: for a tensor that is not in the header.
    """
    return _tensors.load(path)


def save(trained: Trained, path: Path) -> None:
    """Writes a file.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary whose class is not in dictionaries/.
    """
    _tensors.save(trained, path)
