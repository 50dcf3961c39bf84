"""One owner at a time for a run, a store that is harvested, and a folder of exports: locked while it is
written.

The lock is the kernel's (flock) on the file `.lock` in the folder. So it ends with its process, however the
process ends, and holds for every spelling of the folder's path. The file names the owner and is removed at the
end; a file that a killed process left does not lock.

Of several processes, process 0 owns the folder for all. Locks work across machines if the file system's do:
NFS, and Lustre mounted with `flock`. If each machine has its own locks (gcsfuse, Lustre with `localflock`),
they exclude only processes of the same machine. If the file system has no locks, a warning says so and the
work continues.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from dictlearn.streams._barrier import barrier

LOCK = ".lock"
_LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class InUse(RuntimeError):
    """Another process owns the folder."""


@contextlib.contextmanager
def owned(folder: Path, work: str) -> Iterator[None]:
    """Creates the folder and owns it for the block. All processes of a run call it.

    Args:
        folder: the folder.
        work: a description of the work, for the message to others.

    Returns:
        A context manager.

    Raises:
        InUse: if another process owns the folder, naming it.
    """
    with contextlib.ExitStack() as held:
        with barrier(f"Taking {folder}"):
            if jax.process_index() == 0:
                held.enter_context(_there(folder))
                # A finished store may be read-only: a process with nothing to write there needs no lock.
                if os.access(folder, os.W_OK):
                    held.enter_context(_locked(folder, work))
        yield


@contextlib.contextmanager
def _there(folder: Path) -> Iterator[None]:
    """Creates the folder, and removes it again if it stays empty."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextlib.contextmanager
def _locked(folder: Path, work: str) -> Iterator[None]:
    file = folder / LOCK
    handle = _taken(file)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(_myself(work)).encode())
        yield
    finally:
        if _is(file, handle):
            file.unlink()
        os.close(handle)


def _taken(file: Path) -> int:
    """An open handle of the file that holds its lock."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file, handle)
            # An owner that was done in the meantime has removed the file that was locked here.
            if _is(file, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is(file: Path, handle: int) -> bool:
    """Whether the path still leads to the open file: a folder may be moved while it is owned."""
    return file.exists() and os.path.samestat(os.fstat(handle), file.stat())


def _lock(file: Path, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(_said(file)) from None
    except OSError as error:
        if error.errno not in _LOCKLESS:
            raise
        lockless = "%s is on a file system without locks; make sure that nothing else writes there."
        logging.getLogger("dictlearn").warning(lockless, file.parent)


def _myself(work: str) -> dict[str, str | int]:
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"work": work, "host": platform.node(), "process": os.getpid(), "since": started}


def _said(file: Path) -> str:
    """The owner, as its lock file states it; the file is empty at the moment in which it is written."""
    try:
        owner = json.loads(file.read_text("utf-8"))
        told = "{work} (process {process} on {host}, since {since})".format(**owner)
    except (OSError, ValueError, KeyError):
        told = "another process"
    return f"{file.parent} is in use by {told}; wait for it, stop it, or give another folder."
