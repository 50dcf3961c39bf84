"""Caches written in real processes: shared and killed, all end in the same bytes."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dictlearn import events
from tests.events.conftest import job

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def start(dense_UF, tmp_path_factory):
    """Starts `count` processes that write a cache."""
    codes = tmp_path_factory.mktemp("codes") / "codes.npy"
    np.save(codes, dense_UF)

    def start(path, count, seconds=0.0):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        return [
            subprocess.Popen(
                [
                    *(sys.executable, HERE / "process.py"),
                    *map(str, (codes, path, index, count, port, seconds)),
                ],
                env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index in range(count)
        ]

    return start


def finish(processes):
    for process in processes:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.fixture(scope="module")
def whole(dense_UF, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "cache"
    events.write(job(dense_UF), path)
    return contents(path)


def test_two_processes_write_the_bytes_of_one(start, whole, tmp_path):
    finish(start(tmp_path / "cache", 2))
    assert contents(tmp_path / "cache") == whole


def test_two_killed_processes_are_continued_by_one(start, whole, tmp_path):
    path = tmp_path / "cache"
    processes, deadline = start(path, 2, seconds=0.3), time.monotonic() + 100
    while not len(parts := list((path / "parts").glob("*.part"))) >= 2:
        assert time.monotonic() < deadline, processes[0].communicate()[0]
        time.sleep(0.01)
    for process in reversed(processes):
        process.kill()
        process.communicate()
    assert not (path / "manifest.json").exists(), "it ended before it could be killed"
    kept = {part: part.stat().st_mtime_ns for part in parts}
    work, read = job(np.load(processes[0].args[2])), []
    found = work.found
    events.write(work._replace(found=lambda chosen: read.extend(chosen) or found(chosen)), path)
    assert contents(path) == whole
    assert not {int(part.stem) for part in kept} & set(read)
