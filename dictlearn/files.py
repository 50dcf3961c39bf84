"""Atomic writes of files and folders, and their checksums."""

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path for a file or a folder, which replaces `path` when the block ends.

    An error in the block leaves `path` unchanged, and no temporary file remains.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "note.txt"
        ...     with whole(path) as half:
        ...         _ = half.write_text("hello")
        ...     path.read_text()
        'hello'
    """
    half = path.with_name(path.name + ".tmp")
    _remove(half)
    try:
        yield half
        if path.is_dir():
            shutil.rmtree(path)
        half.replace(path)
    finally:
        _remove(half)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
