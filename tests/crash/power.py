"""The changes of a killed process that a power cut may undo: bytes and names that no fsync had brought to the
disk. The worst is taken: files have the length of their last fsync, and renames are undone."""

import os
from collections.abc import Sequence
from pathlib import Path

from tests.crash.shim import Change


class Disk:
    """What is on the disk for sure, change by change."""

    def __init__(self, folder: Path):
        """folder: as it was before the first change, all of it on the disk."""
        self.before = set(folder.rglob("*"))
        self.there = {folder, *folder.rglob("*")} if folder.exists() else set()
        self.lengths = {file: file.stat().st_size for file in self.there if file.is_file()}
        self.written: set[Path] = set()
        self.filled: set[Path] = set()
        self.renamed: list[tuple[Path, Path]] = []
        self.exchanged: list[tuple[Path, Path]] = []

    def change(self, change: Change) -> None:
        call, path, new, length = change
        if call == "open" and path not in self.there:
            self.there.add(path)
            self.lengths[path] = 0
            self.written.add(path)
        elif call in ("open", "write", "truncate"):
            self.written.add(path)
            self.filled |= {path} if call == "write" else set()
        elif call == "mkdir":
            self.there.add(path)
        elif call == "fsync":
            self._fsync(path, length)
        elif call == "unlink":
            self.there.discard(path)
            self.written.discard(path)
        elif call == "rename" and new is not None:
            self._rename(path, new)
        elif call == "exchange" and new is not None:
            self.exchanged.append((path, new))

    def unseen(self, folder: Path) -> list[Path]:
        """The files of a folder that hold what no change put there: written past the shim."""
        held = (file for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
        return sorted(set(held) - self.filled - self.before)

    def cut(self) -> None:
        """The power is cut."""
        for old, new in self.exchanged:
            aside = new.with_name("aside")
            for one, other in ((new, aside), (old, new), (aside, old)):
                if one.exists():
                    one.rename(other)
        for old, new in reversed(self.renamed):
            if not old.parent.exists():
                new.unlink(missing_ok=True)
            elif new.exists() and not old.exists():
                new.rename(old)
                self._move(new, old)
        for file in self.written:
            if file.is_file():
                os.truncate(file, min(file.stat().st_size, self.lengths.get(file, 0)))

    def _fsync(self, path: Path, length: int) -> None:
        self.written.discard(path)
        self.lengths[path] = length
        self.renamed = [one for one in self.renamed if path != one[1].parent]
        self.exchanged = [one for one in self.exchanged if path != one[1].parent]

    def _rename(self, old: Path, new: Path) -> None:
        # What a replaced file held is gone: its rename is taken to be on the disk.
        if new not in self.there:
            self.renamed.append((old, new))
        self._move(old, new)

    def _move(self, old: Path, new: Path) -> None:
        at = lambda path: new / path.relative_to(old) if path.is_relative_to(old) else path
        self.there = {at(path) for path in self.there}
        self.written = {at(path) for path in self.written}
        self.filled = {at(path) for path in self.filled}
        self.lengths = {at(path): length for path, length in self.lengths.items()}
        self.renamed = [(at(a), at(b)) for a, b in self.renamed[:-1]] + self.renamed[-1:]


def cut(before: Disk, changes: Sequence[Change]) -> None:
    """The power is cut when these changes have been made."""
    for change in changes:
        before.change(change)
    before.cut()
