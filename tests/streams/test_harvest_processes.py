"""Harvests in real processes: shared, killed, on a disk that fills, all end in the same bytes."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dictlearn.streams import store

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def start(lm_path, text):
    """Starts one process of a harvest into `path`."""

    def start(path, index=0, count=1, port=0, seconds=0.0, limit=0):
        words = [lm_path, text, path, index, count, port, seconds, limit]
        return subprocess.Popen(
            [sys.executable, HERE / "harvester.py", *map(str, words)],
            env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """What one process that nothing befell leaves."""
    path = tmp_path_factory.mktemp("whole") / "store"
    finish(start(path))
    return contents(path)


def finish(process) -> None:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def shards(path, name):
    """How many shards a partial manifest lists."""
    file = path / name
    return len(json.loads(file.read_text())["shards"]) if file.exists() else 0


def pair(start, path, **arguments):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return [start(path, i, 2, port, **arguments) for i in range(2)]


@pytest.fixture(scope="module")
def killed(start, tmp_path_factory):
    """What two processes leave that are killed once both have finished a shard."""
    path = tmp_path_factory.mktemp("killed") / "store"
    processes, deadline = pair(start, path, seconds=0.2), time.monotonic() + 100
    while not (shards(path, "partial.json") and shards(path, "partial_1.json")):
        assert all(p.poll() is None for p in processes), processes[0].communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for process in reversed(processes):
        process.kill()
        process.communicate()
    assert not (path / "manifest.json").exists(), "the harvest ended before it could be killed"
    return path


def test_two_processes_killed_and_started_again_leave_the_bytes_of_one(
    start, whole, killed, tmp_path
):
    shutil.copytree(killed, tmp_path / "s")
    for process in pair(start, tmp_path / "s"):
        finish(process)
    assert contents(tmp_path / "s") == whole


def test_one_process_keeps_what_two_that_were_killed_had_finished(start, whole, killed, tmp_path):
    shutil.copytree(killed, tmp_path / "s")
    kept = {f: f.stat().st_mtime_ns for f in (tmp_path / "s").glob("shard*.safetensors")}
    listed = shards(killed, "partial.json") + shards(killed, "partial_1.json")
    finish(start(tmp_path / "s"))
    assert contents(tmp_path / "s") == whole
    assert sum(file.stat().st_mtime_ns == at for file, at in kept.items()) >= listed >= 2


def test_a_full_disk_ends_with_a_clear_error_and_what_is_finished_opens(start, whole, tmp_path):
    process = start(tmp_path / "s", limit=20_000)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.search(r"shard_\d+\.safetensors was not written \(File too large; \d+ bytes", said), (
        said
    )
    assert not list((tmp_path / "s").glob("*.tmp"))
    manifest = store.open_manifest(tmp_path / "s", "partial.json")
    assert 0 < len(manifest["shards"]) < len(whole) - 3
    for name, entry in manifest["shards"].items():
        store.check_file(tmp_path / "s", name, entry, verify=True)
        assert len(store.map_tensors(tmp_path / "s", name)["resid.0"]) == entry["rows"]
    with pytest.raises(FileNotFoundError, match="is not finished"):
        store.open_manifest(tmp_path / "s")
    finish(start(tmp_path / "s"))
    assert contents(tmp_path / "s") == whole
