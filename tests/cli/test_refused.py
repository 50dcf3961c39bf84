"""Runs that could not be trained, evaluated or reported are refused before the first step.

Each refusal is one line, which names the key, its value, and the values that are allowed; nothing is
written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dictlearn import cli
from dictlearn.cli.command import UNEXPECTED

ROOT = Path(__file__).parents[2]
FILE = """
from ml_collections import ConfigDict
def get_config(arg="x.npy"):
    c = ConfigDict()
    c.seed, c.steps, c.batch_size = 0, 2, 16
    c.stream = {"name": "npy", "path": arg}
    if arg == "planted":
        c.stream = {"name": "synthetic", "kind": "p1"}
    c.dictionary = {"name": "topk", "n_latents": 32, "k": 4}
    c.rule = {"name": "adam", "lr": 1e-3}
    c.evaluate = {"n_tokens": 16}
    return c
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    np.save("x.npy", random.normal(size=(200, 8)).astype("f4"))
    np.save("y.npy", random.normal(size=(200, 6)).astype("f4"))
    Path("c.py").write_text(FILE)
    return tmp_path


def error(capsys, *words) -> str:
    """The line of a verb that fails."""
    assert cli.main([str(word) for word in words]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"dictlearn {words[0]}: error: ")
    assert UNEXPECTED not in line
    return line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([f"seed={2**64}"], [str(2**64), "64"]),
        ([f"seed={2**32}"], ["seed", str(2**32)]),
        (["seed=-1"], ["seed=-1", "0"]),
        (["sweep.seed=(0,-1)"], ["seed=-1", "0"]),
        (["steps=99999999999"], ["steps=99999999999", str(2**31)]),
        (["rule.lr=-0.1"], ["lr=-0.1", "0"]),
        (["rule.lr=nan"], ["lr=nan", "0"]),
        (["rule.name=spherical", "rule.lr=-1."], ["lr=-1", "0"]),
        (["rule.warmup_steps=-3"], ["warmup_steps=-3", "0"]),
        (["learner.dead_after=-3"], ["dead_after=-3", "0"]),
        (["sweep.k=(4,8.5)"], ["k=8.5", "whole"]),
        (["sweep.k=(4,-1)"], ["k=-1", "1"]),
        (["sweep.k=(4,33)"], ["33", "32"]),
        (["sweep.k=(4,'a')"], ["dictionary.k='a'", "int"]),
        (["sweep.n_latents=(1.5,)"], ["n_latents=1.5", "int"]),
        (["dictionary.n_latents=0"], ["n_latents=0", "1"]),
        (["mesh.sweep=0"], ["mesh.sweep=0", "1"]),
        (["members.a/b.dictionary.k=3"], ["members.a/b.dictionary.k"]),
        (["dictionary.k.x=3"], ["dictionary.k.x"]),
        (["stream.held_out=0.0"], ["npy", "stream.held_out"]),
        (["stream.held_out=0.005"], ["1 rows", "2"]),
        (["evaluate.pursuits=('nope',)"], ["nope", "gradient"]),
        (["evaluate.pursuits=('gradient',)", "stream.target_path=y.npy"], ["d_out=6"]),
        (["evaluate.n_tokens=-5"], ["evaluate.n_tokens=-5", "0"]),
        (["meters.recovery={}"], ["meters.recovery", "npy"]),
        (["meters.description_length.step=3."], ["step=3.0", "to 1"]),
        (["analyses.examples.x=1"], ["examples", "x", "dictionary, n"]),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_the_first_step(words, named, folder, capsys):
    line = error(capsys, "train", "--config=c.py", "--workdir=r", *(f"--config.{w}" for w in words))
    assert all(each in line for each in named), line
    assert not (folder / "r").exists()


def test_values_at_the_bounds_are_taken(folder, capsys):
    bounds = [f"--config.seed={2**32 - 1}", "--config.rule.lr=0.", "--config.stream.held_out=0.01"]
    bounds += ["--config.sweep.k=(1,32)", "--config.learner.dead_after=0"]
    words = ["train", "--config=c.py", "--workdir=r", *bounds]
    assert cli.main(words) == 0
    Path("r/metrics.jsonl").write_text('{"step": 1, "tok\n{"step": 2}\n')
    assert str(Path("r", "metrics.jsonl")) in error(capsys, *words, "--config.steps=3")
    metrics = json.loads(Path("r/metrics.json").read_text())
    del metrics["topk_n32_1"]["l0"]
    Path("r/metrics.json").write_text(json.dumps(metrics))
    Path("r/metrics.jsonl").unlink()
    assert "no l0" in error(capsys, "report", "--workdir=r")


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENVIRONMENTS = {
    "x64": ({"JAX_ENABLE_X64": "1"}, "JAX_ENABLE_X64"),
    "no truth value": ({"JAX_ENABLE_X64": "banana"}, "JAX_ENABLE_X64"),
    "no such device": ({"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS=cuda"),
    "strict types": ({"JAX_NUMPY_DTYPE_PROMOTION": "strict"}, "JAX_NUMPY_DTYPE_PROMOTION"),
    "letters in ascii": (ASCII, "PYTHONUTF8=1"),
    "ascii": (ASCII, ""),
    "no home": ({"HOME": "/nowhere/at/all", "TZ": "America/Caracas"}, ""),
}


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_an_environment_serves_or_is_named_in_a_line(kind, folder):
    given, named = ENVIRONMENTS[kind]
    run = folder / ("it runs" if kind == "ascii" else "läuft gut é")
    command = [sys.executable, "-m", "dictlearn.cli", "train", "--config=c.py", f"--workdir={run}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | given
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        timeout=200,
        encoding="utf-8",
        errors="replace",
    )
    assert "Traceback" not in done.stderr
    if named:
        assert done.returncode == 1
        assert named in done.stderr.strip().splitlines()[-1]
        assert not run.exists()
    else:
        assert done.returncode == 0, done.stderr
        assert (run / "metrics.json").is_file()


@pytest.mark.parametrize("place", ["/proc/run", "x.npy", "x.npy/run", "/dev/null/run"])
def test_a_workdir_that_cannot_be_written_is_named(place, folder, capsys):
    line = error(capsys, "train", "--config=c.py", f"--workdir={place}")
    assert place in line


@pytest.mark.parametrize(
    "content", ["", "x = ", "raise KeyError('é')", "def get_config(): return 3", "\0"]
)
def test_an_experiments_file_that_cannot_be_read_is_named(content, folder, capsys):
    Path("c.py").write_text(content)
    assert "c.py" in error(capsys, "train", "--config=c.py", "--workdir=r")
