"""Atomic writes of files and folders, and their checksums."""

import contextlib
import ctypes
import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import time
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

TEMPORARY = ".tmp"
DAMAGE = (
    *(ValueError, EOFError, OSError, RuntimeError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, SafetensorError),
)
"""What NumPy, zipfile and safetensors raise for a file of arrays that is damaged."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of renameat2(2)."""
_SMALL = 1 << 26
"""The size in bytes below which a file is always read, and its checksum not cached."""
_SETTLED_NS = 2_000_000_000
"""A file that was written more recently may change again within one tick of its file system's clock."""


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path for a file or a folder, which replaces `path` when the block ends.

    The new content is on the disk, and not only in a cache of the system, before it replaces the old. An error
    in the block leaves `path` unchanged, and no temporary file remains. If a process is killed, the next one
    that writes to `path` removes the temporary files, or restores the old folder.

    Raises OSError, with the free space in the message, if the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "note.txt"
        ...     with whole(path) as half:
        ...         _ = half.write_text("hello")
        ...     path.read_text()
        'hello'
    """
    half = _half(path, os.getpid())
    mend(path)
    try:
        try:
            yield half
            to_disk(half)
            _replace(path, half)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise _full(error, path) from error
        # The old one is removed only when the name of the new one is on the disk.
        sync(path.parent)
    finally:
        _remove(half)
        mend(path)


def rename(old: Path, new: Path) -> None:
    """Renames, so that the new name survives a power cut."""
    old.replace(new)
    sync(new.parent)


def to_disk(path: Path) -> None:
    """Waits until a file, or a folder with all its content, would survive a power cut."""
    for one in sorted(path.rglob("*"), reverse=True) if path.is_dir() else ():
        sync(one)
    sync(path)


def sync(path: Path) -> None:
    """Waits until a file's bytes, or a folder's list of names, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_tensors(
    tensors: dict[str, np.ndarray], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file. Raises OSError if the disk refuses the write, as Python's own functions do."""
    room = _room(path)
    room.mkdir()
    try:
        # The library writes under a name that it invents, which could not be found after a kill.
        save_file(tensors, room / "tensors", metadata)
        (room / "tensors").replace(path)
    except SafetensorError as error:
        if (found := re.search(r"\(os error (\d+)\)", str(error))) is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
        _remove(room)


def mend(path: Path) -> None:
    """Restores the folder that a killed process had moved aside, and removes the temporary files of dead
    processes of this machine.
    """
    old, mine = _aside(path), _half(path, os.getpid())
    _remove(mine)
    if old.exists():
        # Renamed before it is removed, so that a half-removed folder is never restored.
        old.replace(mine if path.exists() else path)
        _remove(mine)
    for left in path.parent.glob(f"{glob.escape(path.name)}.*{TEMPORARY}"):
        process = left.name.removesuffix(TEMPORARY).removesuffix(TEMPORARY).rpartition("-")[2]
        half = _half(path, int(process)) if process.isdecimal() else None
        if half and left in (half, _room(half)) and not _alive(int(process)):
            _remove(left)


def _half(path: Path, process: int) -> Path:
    """The path where a process of this machine writes the replacement of `path`."""
    return path.with_name(f"{path.name}.{platform.node()}-{process}{TEMPORARY}")


def _room(half: Path) -> Path:
    """A folder in which another library writes its own temporary files."""
    return half.with_name(half.name + TEMPORARY)


def _aside(path: Path) -> Path:
    """The path of the old folder while a new one replaces it."""
    return path.with_name(f".{path.name}.replaced")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _replace(path: Path, half: Path) -> None:
    """Replaces the path by the half. If the file system can exchange two names, a folder is never missing;
    otherwise it is missing between two renames."""
    if not path.is_dir():
        half.replace(path)
    elif not _exchanged(path, half):
        path.replace(_aside(path))
        half.replace(path)


def _exchanged(a: Path, b: Path) -> bool:
    """Exchanges two names. False if the system cannot."""
    try:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # not Linux
        return False
    if exchange(_HERE, os.fsencode(a), _HERE, os.fsencode(b), _EXCHANGE) == 0:
        return True
    if (number := ctypes.get_errno()) in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(a))


def _full(error: OSError, path: Path) -> OSError:
    free = shutil.disk_usage(path.parent).free
    return OSError(
        error.errno,
        f"{path} was not written ({error.strerror}; {free} bytes are free there); its old content is "
        "unchanged. Free some space, and run the command again",
    )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*paths: Path) -> str:
    """The SHA-256 of a file, or of the names and checksums of several files.

    A large file is read once: its checksum is kept in the user's cache ($XDG_CACHE_HOME, or ~/.cache) with its
    size and times. The file is read again when one of them has changed. `sha256` always reads the file."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(_remembered, paths))
    if len(found) == 1:
        return found[0]
    lines = "".join(f"{one}  {path.name}\n" for one, path in zip(found, paths, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _remembered(path: Path) -> str:
    stamp, began = _stamp(path), time.time_ns()
    if stamp[0] < _SMALL:
        return sha256(path)
    entry = _cache() / hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
    try:
        kept = json.loads(entry.read_text("utf-8"))
        if kept["stamp"] == stamp:
            return kept["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = sha256(path)
    if _stamp(path) == stamp and max(stamp[1:3]) + _SETTLED_NS < began:
        with contextlib.suppress(OSError):
            entry.parent.mkdir(parents=True, exist_ok=True)
            with whole(entry) as half:
                half.write_text(json.dumps({"stamp": stamp, "sha256": found}), "utf-8")
    return found


def _stamp(path: Path) -> list[int]:
    """Values that change with the file: its size, its times, its inode and its device."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev]


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # Without a home the path keeps its "~". Nothing is cached then, because devnull holds no files.
    return Path(home if os.path.isabs(home) else os.devnull) / "dictlearn" / "sha256"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
