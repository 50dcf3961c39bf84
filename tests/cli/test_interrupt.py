"""Ctrl-C: once, a checkpoint, a line and the exit status 130; twice, the end at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dictlearn import cli
from dictlearn.runs.trained import restore_run
from dictlearn.train import Stopped, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def heard():
    """Ctrl-C as a terminal gives it: what a shell starts in the background ignores it, children too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def config(tmp_path) -> dict:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(200, 8)).astype("f4"))
    return {
        "seed": 0,
        "steps": 6,
        "batch_size": 16,
        "stream": {"name": "npy", "path": str(tmp_path / "x.npy")},
        "dictionary": {"name": "topk", "n_latents": 16, "k": 3},
        "rule": {"name": "adam", "lr": 1e-3},
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_its_step_and_the_same_call_goes_on(number, tmp_path):
    def progress(done, total):
        if done == 32:
            signal.raise_signal(number)

    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stopped) as caught:
        train(config(tmp_path), tmp_path / "run", progress)
    assert caught.value.interrupted == (number == signal.SIGINT)
    assert restore_run(tmp_path / "run").step == caught.value.step == 3
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    train(config(tmp_path), tmp_path / "run")
    train(config(tmp_path), tmp_path / "whole")
    cut, whole = (restore_run(tmp_path / name).variables["topk_n16_0"] for name in ("run", "whole"))
    np.testing.assert_array_equal(cut["params"]["W_dec_FD"], whole["params"]["W_dec_FD"])


def test_a_signal_before_the_first_step_writes_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(
            config(tmp_path),
            tmp_path / "run",
            opened=lambda stream: signal.raise_signal(signal.SIGINT),
        )
    assert not (tmp_path / "run" / "config.json").exists()


def test_the_command_says_one_line_and_exits_with_130(tmp_path, capsys):
    config(tmp_path)
    log = tmp_path / "run" / "metrics.jsonl"

    def interrupt():
        while not (log.exists() and log.stat().st_size):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    file = f"--config={ROOT / 'experiments' / 'from_npy.py'}:smoke,{tmp_path / 'x.npy'}"
    more = ["--config.batch_size=16", "--config.dictionary.n_latents=32", "--config.dictionary.k=3"]
    more += ["--config.steps=1000000", "--config.log_every=1"]
    assert cli.main(["train", file, f"--workdir={log.parent}", *more]) == 130
    said = capsys.readouterr()
    assert len(said.out.strip().splitlines()) == 1
    assert f"step {restore_run(log.parent).step};" in said.out


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("with interrupt.at_once(): signal.raise_signal(2)", "interrupted"),
        (
            "with interrupt.twice():\n"
            "  signal.signal(2, lambda *_: None)\n"
            "  signal.raise_signal(2); time.sleep(.1); signal.raise_signal(2); time.sleep(60)",
            "twice",
        ),
    ],
)
def test_at_once_means_at_once_whoever_swallows_the_exception(code, said):
    program = (
        f"import signal, time\nfrom dictlearn.cli import interrupt\n{code}\nraise SystemExit(3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 130
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
