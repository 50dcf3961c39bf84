"""The command line keeps compiled programs for the next process, where it can and may."""

import subprocess
import sys

import pytest

from dictlearn.cli import program_cache

SLOW_TO_COMPILE = """
import jax
from dictlearn.cli import program_cache
program_cache.LEAST_SECONDS = 0.0
program_cache.keep()
print(jax.config.jax_compilation_cache_dir)
jax.jit(lambda x: x * 2 + 1)(1.0)
"""


WITHOUT_HOME = """
import os, pwd
del os.environ["HOME"]
def nobody(uid): raise KeyError(uid)
pwd.getpwuid = nobody
"""


def run(home, before="", **environment):
    line = [sys.executable, "-c", before + SLOW_TO_COMPILE]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "JAX_PLATFORMS": "cpu"} | environment
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "rror" not in done.stderr
    return done.stdout.strip()


def test_programs_are_kept_under_the_home_for_this_kind_of_processor(tmp_path):
    path = run(tmp_path)
    assert path == str(program_cache.folder({"XDG_CACHE_HOME": str(tmp_path / ".cache")}))
    kept = list((tmp_path / ".cache" / "dictlearn" / "programs").rglob("*-cache"))
    assert kept
    before = {file: file.stat().st_mtime_ns for file in kept}
    run(tmp_path)
    assert {file: file.stat().st_mtime_ns for file in kept} == before


def test_a_folder_of_the_users_wins_and_no_home_is_no_error(tmp_path):
    own = tmp_path / "own"
    assert run(tmp_path / "home", JAX_COMPILATION_CACHE_DIR=str(own)) == str(own)
    assert not (tmp_path / "home").exists()
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file") == "None"
    assert run(tmp_path, WITHOUT_HOME) == "None"


@pytest.mark.parametrize("told", ["flags : avx512f", "flags : sse2"])
def test_another_kind_of_processor_has_another_folder(monkeypatch, tmp_path, told):
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\n{told}\nprocessor : 1\n{told}\n")
    own = program_cache.folder({"XDG_CACHE_HOME": "/c"})
    monkeypatch.setattr(program_cache, "CPU", info)
    found = program_cache.folder({"XDG_CACHE_HOME": "/c"})
    assert found != own
    assert found == program_cache.folder({"XDG_CACHE_HOME": "/c"})
