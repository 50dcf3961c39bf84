"""Files and folders are written whole or not at all. Checksums are remembered: the same for the same content,
and never an old one for a new content."""

import errno
import hashlib
import json
import os
import subprocess
import sys

import pytest

from dictlearn import files

OLD_NS = 10**18
"""A time long past: what was written then cannot be written again in the same tick."""


@pytest.fixture
def reads(tmp_path, monkeypatch):
    """The files that are read, in order; every file counts as large, and the cache is the test's."""
    found, read = [], files.sha256
    monkeypatch.setattr(files, "_SMALL", 0)
    monkeypatch.setattr(files, "sha256", lambda path: found.append(path.name) or read(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return found


@pytest.fixture
def settled(monkeypatch):
    """As if every file had been written long ago, its inode included."""
    monkeypatch.setattr(files, "_SETTLED_NS", -(10**18))


def write(path, content: bytes):
    path.write_bytes(content)
    os.utime(path, ns=(OLD_NS, OLD_NS))
    return path


def test_a_large_file_is_read_once_under_every_spelling(tmp_path, reads, settled, monkeypatch):
    file = write(tmp_path / "a.bin", b"abc")
    (tmp_path / "link").symlink_to(file)
    monkeypatch.chdir(tmp_path)
    spelt = [
        file,
        files.Path("a.bin"),
        tmp_path / "link",
        tmp_path / ".." / tmp_path.name / "a.bin",
    ]
    assert {files.digest(path) for path in spelt} == {hashlib.sha256(b"abc").hexdigest()}
    assert reads == ["a.bin"]


@pytest.mark.parametrize("content", [b"abd", b"abcd", b""])
def test_what_was_written_anew_is_read_anew_though_its_time_was_set_back(
    content, tmp_path, reads, settled
):
    file = write(tmp_path / "a.bin", b"abc")
    before = files.digest(file)
    write(file, content)
    assert files.digest(file) == hashlib.sha256(content).hexdigest() != before
    file.unlink()
    write(file, b"abc")
    assert files.digest(file) == before


def test_what_was_just_written_is_not_remembered(tmp_path, reads):
    file = write(tmp_path / "a.bin", b"abc")
    assert files.digest(file) == files.digest(file)
    assert reads == ["a.bin", "a.bin"]


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"stamp": 3}', "{"])
def test_a_damaged_memory_is_none(damage, tmp_path, reads, settled):
    file = write(tmp_path / "a.bin", b"abc")
    files.digest(file)
    (entry,) = (tmp_path / "cache" / "dictlearn" / "sha256").iterdir()
    assert json.loads(entry.read_text())["sha256"] == hashlib.sha256(b"abc").hexdigest()
    entry.write_text(damage)
    assert files.digest(file) == hashlib.sha256(b"abc").hexdigest()
    assert reads == ["a.bin", "a.bin"]


def test_without_a_home_nothing_is_kept(tmp_path, reads, settled, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(files.os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path / "a.bin", b"abc")
    assert files.digest(file) == files.digest(file)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_several_files_have_one_checksum_that_each_of_them_decides(tmp_path):
    a, b = write(tmp_path / "a", b"1"), write(tmp_path / "b", b"2")
    found = {files.digest(a, b)}
    found.add(files.digest(write(a, b"2"), b))
    found.add(files.digest(a, write(b, b"1")))
    found.add(files.digest(a, b.rename(tmp_path / "c")))
    assert len(found) == 4


@pytest.fixture
def folder(tmp_path):
    """A folder that is there already, with a file."""
    path = tmp_path / "export"
    path.mkdir()
    (path / "kept").write_text("before")
    return path


def listed(path):
    return sorted(one.name for one in path.iterdir())


def test_a_file_and_a_folder_are_replaced_as_wholes(folder):
    with files.whole(folder) as half:
        half.mkdir()
        (half / "new").write_text("after")
    with files.whole(folder / "new") as half:
        half.write_text("again")
    assert listed(folder) == ["new"]
    assert (folder / "new").read_text() == "again"
    assert listed(folder.parent) == ["export"]


def rewrite(folder, fail=None):
    with files.whole(folder) as half:
        half.mkdir()
        (half / "new").write_text("after")
        if fail:
            raise fail


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("at", [None, "to_disk"])
def test_a_full_disk_leaves_what_was_there_and_says_what_is_free(folder, monkeypatch, at):
    def refuse(*_):
        raise FULL

    if at:
        monkeypatch.setattr(files, at, refuse)
    with pytest.raises(OSError, match=r"export.* bytes are free") as caught:
        rewrite(folder, None if at else FULL)
    assert caught.value.errno == errno.ENOSPC
    assert (folder / "kept").read_text() == "before"
    assert listed(folder.parent) == ["export"]


def test_another_error_is_raised_as_it_is(folder):
    with pytest.raises(KeyError):
        rewrite(folder, KeyError("mine"))
    assert listed(folder) == ["kept"]
    assert listed(folder.parent) == ["export"]


def dead():
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_is_put_back_or_taken_away(folder):
    folder.rename(folder.parent / ".export.replaced")
    left, mine = (files._half(folder, pid) for pid in (dead(), os.getppid()))
    far = folder.parent / f"export.elsewhere-{dead()}.tmp"
    for each in (left, mine, far):
        each.mkdir()
    users = folder.parent / "export.notes.tmp"
    users.write_text("a user's own")
    files.mend(folder)
    assert (folder / "kept").read_text() == "before"
    assert listed(folder.parent) == sorted(["export", far.name, mine.name, users.name])


def test_a_part_of_a_folder_is_never_put_back(folder, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    (folder.parent / ".export.replaced").mkdir()
    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        files.mend(folder)
    assert not (folder.parent / ".export.replaced").exists()
    assert listed(folder) == ["kept"]


def test_what_fails_after_the_new_one_is_there_does_not_say_that_the_old_one_is(
    folder, monkeypatch
):
    def refuse(path):
        if path == folder.parent:
            raise FULL

    monkeypatch.setattr(files, "sync", refuse)
    with pytest.raises(OSError, match="No space") as caught:
        rewrite(folder)
    assert "unchanged" not in str(caught.value)
    assert (folder / "new").read_text() == "after"
