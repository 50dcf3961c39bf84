"""Checksums that are remembered: the same for the same content, and never an old one for a new content."""

import hashlib
import json
import os

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
