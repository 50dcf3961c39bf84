"""Runs that are killed, stopped or damaged go on as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dictlearn import restore
from dictlearn.runs.trained import restore_run
from dictlearn.train import train
from tests.helpers import planted_config

ROOT = Path(__file__).parents[1]
CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=""):
    return ConfigDict({config!r})
"""

TWO_PROGRAMS = {"n_latents": (64, 128), "k": (2, 3)}


def settings(**changes):
    more = {"steps": 300, "log_every": 7, "checkpoint_every": 20, "evaluate": {"n_tokens": 512}}
    return planted_config(**({"sweep": {"k": (2, 3)}} | more | changes))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts `dictlearn train` on a workdir; gives the process, which writes to `said`."""
    file = tmp_path_factory.mktemp("config") / "planted.py"
    config = settings(steps=700, checkpoint_every=50, sweep=TWO_PROGRAMS)
    file.write_text(CONFIG.format(config=config))

    def go(workdir):
        command = [sys.executable, "-m", "dictlearn.cli", "train"]
        command += [f"--config={file}", f"--workdir={workdir}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with said(workdir).open("w") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    return go


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The workdir of a run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finish(start(workdir), workdir)
    return workdir


def said(workdir: Path) -> Path:
    return workdir.with_suffix(".log")


def finish(process, workdir: Path) -> None:
    assert process.wait(timeout=240) == 0, said(workdir).read_text()


def steps_on_disk(workdir: Path) -> list[int]:
    folder = workdir / "checkpoints"
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def outcome(workdir: Path):
    """Everything a run leaves that must be reproducible: arrays and text."""
    run = restore_run(workdir)
    arrays = [np.asarray(leaf) for key in sorted(run.variables) for leaf in leaves(run, key)]
    return run.step, arrays, *((workdir / n).read_text() for n in ("metrics.jsonl", "metrics.json"))


def leaves(run, key):
    import jax

    return jax.tree.leaves(run.variables[key])


def same(found, wanted):
    assert found[0] == wanted[0]
    for a, b in zip(found[1], wanted[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert found[2:] == wanted[2:]


def test_a_run_killed_at_random_moments_ends_bit_for_bit_as_one_that_was_not(
    start, whole, tmp_path
):
    workdir, chance = tmp_path / "killed", random.Random(0)
    for _ in range(2):
        process = start(workdir)
        before = max(steps_on_disk(workdir), default=0)
        deadline = time.monotonic() + 120
        while max(steps_on_disk(workdir), default=0) <= before and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.25 * chance.random())
        process.kill()
        process.wait()
    assert not (workdir / "metrics.json").exists(), "the run ended before it could be killed"
    finish(start(workdir), workdir)
    same(outcome(workdir), outcome(whole))


def test_sigterm_saves_and_exits_cleanly_and_the_run_goes_on(start, whole, tmp_path):
    workdir = tmp_path / "stopped"
    process = start(workdir)
    while not steps_on_disk(workdir):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=240) == 75, said(workdir).read_text()
    step = max(steps_on_disk(workdir))
    assert f"stopped at step {step};" in said(workdir).read_text()
    assert (workdir / "checkpoints" / str(step) / "checksums.sha256").exists()
    finish(start(workdir), workdir)
    same(outcome(workdir), outcome(whole))


def test_a_flipped_byte_costs_one_checkpoint_and_is_named(tmp_path, caplog):
    config = settings(steps=60, checkpoint_every=20)
    train(config, tmp_path)
    wanted = restore_run(tmp_path).variables
    largest = max((tmp_path / "checkpoints" / "60").rglob("*"), key=lambda p: p.stat().st_size)
    damaged = bytearray(largest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    largest.write_bytes(damaged)
    assert restore_run(tmp_path).step == 40
    assert str(tmp_path / "checkpoints" / "60") in caplog.text
    train(config, tmp_path)
    again = restore_run(tmp_path)
    assert again.step == 60
    for key, tree in wanted.items():
        for name, leaf in tree["params"].items():
            np.testing.assert_array_equal(again.variables[key]["params"][name], leaf)


def test_logging_cannot_change_a_run(tmp_path):
    for name, every in (("often", 1), ("seldom", 50)):
        train(settings(steps=50, log_every=every), tmp_path / name)
    often, seldom = (restore_run(tmp_path / name).variables for name in ("often", "seldom"))
    for key in often:
        for name, leaf in often[key]["params"].items():
            np.testing.assert_array_equal(leaf, seldom[key]["params"][name])


def test_metrics_jsonl_has_a_line_a_logged_step_with_every_dictionary(tmp_path):
    train(settings(steps=20, sweep=TWO_PROGRAMS), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [7, 14, 20]
    assert lines[0]["tokens"] == 7 * 128
    names = {"topk_n64_0", "topk_n64_1", "topk_n128_0", "topk_n128_1"}
    assert names < lines[0].keys()
    assert {"loss", "l0", "explained_variance", "dead_fraction"} <= lines[0]["topk_n64_0"].keys()


def test_a_workdir_of_another_run_is_refused_and_left_as_it_is(tmp_path):
    train(settings(steps=20), tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    other = settings(steps=20, dictionary={"aux_k": 4}, rule={"lr": 0.1})
    both = r"holds a run with dictionary.aux_k=8, not 4; rule.lr=0.001, not 0.1; give .*--allow_changed"
    with pytest.raises(ValueError, match=both):
        train(other, tmp_path)
    with pytest.raises(ValueError, match=r"\b20\b.*steps=10"):
        train(settings(steps=10), tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_changed_config_goes_on_when_told_to_and_says_what_has_changed(tmp_path, caplog):
    train(settings(steps=20), tmp_path)
    train(settings(steps=21, rule={"lr": 0.1}), tmp_path, allow_changed=True)
    assert "rule.lr=0.001, not 0.1." in caplog.text
    run = restore_run(tmp_path)
    assert (run.step, run.config["rule"]["lr"]) == (21, 0.1)


def test_more_steps_go_on_from_where_it_ended(tmp_path):
    train(settings(steps=20), tmp_path)
    train(settings(steps=30), tmp_path)
    assert restore_run(tmp_path).step == 30


def test_restored_dictionaries_encode_decode_and_know_their_hyperparameters(tmp_path):
    stream = {"normalise": "mean_norm_sqrt_d"}
    train(settings(steps=20, sweep=TWO_PROGRAMS, stream=stream), tmp_path)
    found = restore(tmp_path)
    assert [d.name for d in found] == ["topk_n64_0", "topk_n64_1", "topk_n128_0", "topk_n128_1"]
    assert [d.hparams["dictionary"]["k"] for d in found] == [2, 3, 2, 3]
    x = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
    for d in found:
        codes = d.encode(x)
        np.testing.assert_allclose(d.decode(codes), d.reconstruct(x), atol=1e-5)
        assert (np.asarray(codes.val) != 0).sum(1).max() == d.hparams["dictionary"]["k"]


def test_there_is_nothing_to_restore_where_nothing_was_trained(tmp_path):
    with pytest.raises(FileNotFoundError, match="`dictlearn train`"):
        restore(tmp_path)
