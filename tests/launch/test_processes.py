"""Real processes: the parameters of one, whatever befalls them."""

import random
import signal
import subprocess
import sys
import time

import pytest

from dictlearn import distributed, sharding
from dictlearn.distributed import Place
from dictlearn.train import train
from tests.launch.kills import ROOT, Run, difference, planted

CONFIG = planted(steps=120, every=20)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The workdir of one process with 8 devices."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(CONFIG, workdir)
    return workdir


def another_checkpoint(run: Run) -> None:
    before, deadline = run.newest(), time.monotonic() + 200
    while run.newest() <= before and run.process.poll() is None:
        assert time.monotonic() < deadline, run.said()
        time.sleep(0.02)


def test_two_processes_one_stopped_and_one_killed_end_with_the_parameters_of_one(whole, tmp_path):
    run = Run(CONFIG, tmp_path / "two", processes=2, devices=4)
    sent = run.send([signal.SIGTERM, signal.SIGKILL], another_checkpoint, random.Random(0))
    run.finish()
    assert sent == 2, "the run ended before it could be killed"
    assert difference(whole, tmp_path / "two") < 1e-5
    said = run.said()
    assert said.count("exit 75") == 2, "SIGTERM of one stops both"
    assert said.count("killed by SIGKILL") == 1
    assert said.count("killed by SIGABRT") == 1, "the other ended itself, having said who was lost"
    assert "unhealthy (stopped sending heartbeats)" in said
    assert "launch: restart 2, at most 20" in said


def test_four_processes_end_with_the_parameters_of_one(whole, tmp_path):
    run = Run(CONFIG, tmp_path / "four", processes=4, devices=2)
    run.finish()
    assert difference(whole, tmp_path / "four") < 1e-5


def test_who_waits_in_vain_says_for_whom():
    code = "from dictlearn import distributed as d; d.start(d.Place('127.0.0.1:{}', 2, {}), 30, 1)"
    for port, process, message in (
        (0, 1, "nothing answers at 127.0.0.1:"),
        (1, 0, "waits at port"),
    ):
        command = [
            sys.executable,
            "-c",
            code.format(free_port() if port == 0 else free_port(), process),
        ]
        found = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert found.returncode == distributed.AGAIN, found.stderr
        assert message in found.stderr


def free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
