"""Real processes: the parameters of one, whatever befalls them."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from dictlearn import cli, sharding
from dictlearn.cli import distributed, interrupt
from dictlearn.cli.distributed import Place
from dictlearn.runs.trained import restore_run
from dictlearn.train import train
from tests.launch.kills import CONFIG, ROOT, Run, planted


def test_two_processes_one_of_them_killed_end_with_the_parameters_of_one(tmp_path):
    config = planted(steps=60, every=10)
    run = Run(config, tmp_path / "two", processes=2, devices=4)
    sent = run.send([signal.SIGKILL], a_checkpoint, random.Random(0))
    run.finish()
    assert len(sent) == 1, "the run ended before it could be killed"
    train(config, tmp_path / "one")
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-5
    said = run.said()
    assert said.count("killed by SIGKILL") == 1
    other = re.findall(r"process \d: (?:killed by SIGABRT|exit 1)\n", said)
    assert len(other) == 1, "the other ended itself, or failed at a checkpoint that nobody finished"
    assert "launch: restart 1, " in said


def difference(a: Path, b: Path) -> float:
    """The largest between the dictionaries of two finished runs."""
    runs = [restore_run(path) for path in (a, b)]
    assert runs[0].step == runs[1].step
    pairs = zip(*(jax.tree.leaves(run.variables) for run in runs), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)


def a_checkpoint(run: Run) -> None:
    deadline = time.monotonic() + 200
    while not run.newest() and run.process.poll() is None:
        assert time.monotonic() < deadline, run.said()
        time.sleep(0.02)


def test_four_processes_stop_after_one_step_with_the_parameters_of_one(tmp_path):
    config, port, workdir = planted(steps=600, every=5), free_port(), tmp_path / "four"
    cpu = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    cpu |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**os.environ, **cpu, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, Path(__file__).parent / "trainer.py", json.dumps(config), workdir]
    running = [
        subprocess.Popen(
            [*map(str, words), str(port), "4", str(i)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(4)
    ]
    deadline = time.monotonic() + 200
    while not (workdir / "checkpoints" / "5").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    running[2].terminate()
    said = [process.communicate(timeout=100)[1] for process in running]
    assert [process.returncode for process in running] == [distributed.EX_TEMPFAIL] * 4, said
    steps = {int(found) for text in said for found in re.findall(r"stopped at step (\d+)", text)}
    assert len(steps) == 1, said
    train({**config, "steps": steps.pop()}, tmp_path / "one")
    assert difference(tmp_path / "one", workdir) < 1e-5


def test_ctrl_c_to_two_processes_leaves_one_checkpoint_and_one_line(tmp_path):
    file, workdir = tmp_path / "config.py", tmp_path / "two"
    file.write_text(CONFIG.format(planted(steps=1_000_000, every=1_000_000) | {"log_every": 1}))
    words = [sys.executable, "-m", "dictlearn.cli", "train", f"--config={file}", "--processes=2"]
    words += [f"--workdir={workdir}", f"--coordinator=127.0.0.1:{free_port()}"]
    cpu = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    # A shell's background ignores Ctrl-C, and its children with it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        running = [
            subprocess.Popen(
                [*words, f"--process={i}"],
                env={**os.environ, **cpu, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(2)
        ]
    finally:
        signal.signal(signal.SIGINT, before)
    log, deadline = workdir / "metrics.jsonl", time.monotonic() + 200
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in running:
        process.send_signal(signal.SIGINT)
    said = [process.communicate(timeout=100) for process in running]
    assert [process.returncode for process in running] == [interrupt.STATUS] * 2, said
    (step,) = (path.name for path in (workdir / "checkpoints").iterdir())
    # Gloo has lines of its own there.
    ours = [[line for line in out.splitlines() if "dictlearn" in line] for out, _ in said]
    assert [len(lines) for lines in ours] == [1, 0], said
    assert f"step {step};" in ours[0][0]
    assert "Traceback" not in said[0][1] + said[1][1]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize(
    ("process", "message"), [(1, "nothing answers at 127.0.0.1:"), (0, "waits at port")]
)
def test_who_waits_in_vain_says_for_whom(process, message):
    address = f"127.0.0.1:{free_port()}"
    code = f"from dictlearn.cli import distributed as d; d.start(d.Place('{address}', 2, {process}), 30, 1)"
    command = [sys.executable, "-c", code]
    found = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert found.returncode == distributed.EX_TEMPFAIL, found.stderr
    assert message in found.stderr


@pytest.mark.parametrize(
    ("given", "environment", "place"),
    [
        ((), {}, None),
        (("a:1", 2, 1), {}, Place("a:1", 2, 1)),
        (("a:1", None, 1), {"JAX_NUM_PROCESSES": "2"}, Place("a:1", 2, 1)),
        (("auto",), {}, Place()),
        ((), {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "n"}, Place()),
        ((), {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "n"}, None),
        ((), {"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, None),
        ((), {"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"}, Place()),
        ((), {"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ((), {"TPU_WORKER_HOSTNAMES": "a,b", "JAX_PLATFORMS": "cpu"}, None),
    ],
)
def test_a_process_finds_its_place_by_flags_or_by_what_started_it(given, environment, place):
    found = distributed.find(*(*given, None, None, None)[:3], environment=environment)
    assert found == place


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a:1", None, 0), "--processes missing; one of several processes needs --coordinator="),
        ((None, 2, None), "--coordinator and --process missing"),
        (("a", 2, 0), "--coordinator=a must be HOST:PORT or auto"),
        (("a:1", 2, 2), "--process=2 must be from 0 to 1"),
    ],
)
def test_a_place_that_is_none_is_refused(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        distributed.find(*given, environment={})


def test_work_for_one_is_refused_to_several(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "auto")
    assert cli.main(["fit", f"--workdir={tmp_path}"]) == 1
    assert "JAX_COORDINATOR_ADDRESS" in capsys.readouterr().err


class Store(dict):
    """The part of the coordination service that `Watch` uses."""

    def key_value_set(self, key, value, allow_overwrite):
        self[key] = value

    def key_value_dir_get(self, folder):
        return [(key, value) for key, value in self.items() if key.startswith(folder)]


def test_a_hung_process_is_named_by_those_that_wait_for_it(monkeypatch):
    ends, said = [], threading.Event()
    end = lambda status, message: (ends.append((status, message)), said.set())
    store = Store({"dictlearn/steps/1": "3", "dictlearn/steps/2": "2", "dictlearn/steps/3": "2"})
    monkeypatch.setattr(distributed, "is_multiprocess", lambda: True)
    monkeypatch.setattr("jax.process_index", lambda: 0)
    monkeypatch.setattr(distributed, "_exit", end)
    monkeypatch.setattr(distributed.multihost, "get_jax_distributed_client", lambda: store)
    with distributed.Watch(1.0) as watch:
        for _ in range(20):
            watch.step()
            time.sleep(0.1)
        assert not ends, "a run that steps was ended"
        assert said.wait(30)
    assert ends[0][0] == distributed.EX_TEMPFAIL
    assert "step 21 since the start has not ended" in ends[0][1]
    assert "Fewest steps, 2, has process 2, 3 of 4" in ends[0][1]


@pytest.mark.parametrize(
    ("processes", "shares"),
    [
        ([[[0], [0], [1], [1]]], [(0, 2), (1, 2)]),
        ([[[0, 1]]], [(0, 1), (0, 1)]),
        ([[[0, 1], [2, 3]]], [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ([[[0], [1]], [[2], [3]]], [(0, 2), (1, 2), (0, 2), (1, 2)]),
    ],
)
def test_processes_with_the_same_tokens_read_the_same_share(processes, shares, monkeypatch):
    mesh = mesh_like(processes)
    for process, share in enumerate(shares):
        monkeypatch.setattr("jax.process_index", lambda process=process: process)
        assert sharding.share(mesh) == share


def test_tokens_that_processes_share_in_part_are_refused():
    with pytest.raises(ValueError, match="choose data or model a multiple of the processes"):
        sharding.share(mesh_like([[[0], [0], [1]], [[1], [2], [2]]]))


def mesh_like(processes):
    devices = np.vectorize(lambda p: SimpleNamespace(process_index=p), otypes=[object])(processes)
    shape = dict(zip(("sweep", "data", "model"), devices.shape, strict=True))
    return SimpleNamespace(axis_names=tuple(shape), shape=shape, devices=devices)
