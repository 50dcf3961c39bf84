"""One owner of a folder at a time, under any spelling of its path, until it is gone."""

import json
import os
import platform
import subprocess
import sys

import jax.numpy as jnp
import pytest

from dictlearn import Trained, dictionaries, interop
from dictlearn.harvest import harvest
from dictlearn.runs import owner
from dictlearn.runs.owner import LOCK, InUse, owned
from dictlearn.train import train
from tests.streams.language import SIZES, load, write_lm, write_text

HOLDS = """
import sys, time
from pathlib import Path
from dictlearn.runs.owner import owned
with owned(Path(sys.argv[1]), "a long run"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that owns `tmp_path / "run"`."""
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_that_another_process_owns_is_refused_and_its_death_frees_it(other, tmp_path):
    with pytest.raises(InUse) as error, owned(tmp_path / "run", "mine"):
        pass
    for word in ("a long run", str(other.pid), platform.node(), str(tmp_path / "run")):
        assert word in str(error.value)
    assert json.loads((tmp_path / "run" / LOCK).read_text())["process"] == other.pid
    other.kill()
    other.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with owned(tmp_path / "run", "mine"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["process"] == os.getpid()
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("spelt", ["run", "./run/", "link", "../{}/run", "{}/run"])
def test_the_same_folder_spelt_otherwise_is_the_same(spelt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    where = tmp_path if spelt.startswith("{") else tmp_path.name
    first = owned(tmp_path / "run", "first")
    with first, pytest.raises(InUse), owned(owner.Path(spelt.format(where)), "second"):
        pass
    with owned(owner.Path(spelt.format(where)), "third"):
        pass


def test_what_fails_lets_go_and_another_folder_of_the_old_name_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(ZeroDivisionError), owned(tmp_path / "run", "fails"):
        raise ZeroDivisionError
    assert not (tmp_path / "run" / LOCK).exists()
    with owned(tmp_path / "run", "moved"):
        (tmp_path / "run").rename(tmp_path / "moved")
        with pytest.raises(InUse), owned(tmp_path / "moved", "second"):
            pass
        with owned(tmp_path / "run", "new"):
            pass
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / LOCK).touch()
    assert (tmp_path / "run" / LOCK).exists()


def trains(folder):
    config = {"seed": 0, "steps": 2, "batch_size": 8, "stream": {"name": "synthetic"}}
    config |= {"dictionary": {"name": "topk", "n_latents": 8, "k": 2}}
    config |= {"objective": {"name": "fvu"}, "rule": {"name": "adam", "lr": 1e-3}}
    train(config, folder / "out")


def harvests(folder):
    text = write_text(folder / "text.txt")
    harvest(load(write_lm(folder)), folder / "out", "resid.0", text=text, **SIZES)


def exports(folder):
    interop.export(folder / "run", "npz", folder / "out")


@pytest.mark.parametrize("work", [trains, harvests, exports])
def test_runs_harvests_and_exports_write_nothing_where_another_works(work, tmp_path, monkeypatch):
    module = dictionaries.make("topk", d_in=3, n_latents=4, k=2)
    params = {"W_enc_FD": jnp.ones((4, 3)), "W_dec_FD": jnp.ones((4, 3))}
    params |= {"b_enc_F": jnp.ones(4), "b_dec_D": jnp.ones(3)}
    found = [Trained(module, {"params": params}, name="one")]
    monkeypatch.setattr(interop, "restore", lambda workdir: found)
    with owned(tmp_path / "out", "first"):
        with pytest.raises(InUse, match="first"):
            work(tmp_path)
        assert [file.name for file in (tmp_path / "out").iterdir()] == [LOCK]
    work(tmp_path)
    assert not (tmp_path / "out" / LOCK).exists()
    assert list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("there", [False, True])
def test_what_comes_to_nothing_leaves_no_new_folder(there, tmp_path):
    if there:
        (tmp_path / "run").mkdir()
    with pytest.raises(ZeroDivisionError), owned(tmp_path / "run", "refused"):
        raise ZeroDivisionError
    assert (tmp_path / "run").exists() == there


def test_a_finished_store_that_is_read_only_is_found_finished(tmp_path, monkeypatch):
    harvests(tmp_path)
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(owner.os, "access", lambda path, mode: False)
    monkeypatch.setattr(owner, "_taken", lambda file: pytest.fail(f"{file} was opened"))
    harvests(tmp_path)
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    assert after == before


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def refuses(handle, how):
        raise OSError(owner.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(owner.fcntl, "flock", refuses)
    with owned(tmp_path, "work"):
        assert str(tmp_path) in caplog.text


def test_another_error_of_locking_is_raised(tmp_path, monkeypatch):
    def fails(handle, how):
        raise OSError(owner.errno.EIO, "Input/output error")

    monkeypatch.setattr(owner.fcntl, "flock", fails)
    with pytest.raises(OSError, match="Input/output error"), owned(tmp_path, "work"):
        pass
