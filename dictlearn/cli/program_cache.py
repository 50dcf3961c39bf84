"""Compiled programs stay on disk, so that the next process starts without compiling what this one compiled.

JAX does so where JAX_COMPILATION_CACHE_DIR is set, and that setting wins. By default the folder is
`~/.cache/dictlearn/programs` (`$XDG_CACHE_HOME/dictlearn/programs`), with one folder for each kind of
processor, because a home is shared by machines and machine code is not. JAX names a program by its operations,
the compiler's version and its options, so that a program of another version is never run. The oldest programs
are deleted from 1 GiB on. Without a home, or where nothing can be written there, every process compiles.
"""

import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import jax

MOST_BYTES = 2**30
CPU = Path("/proc/cpuinfo")
LEAST_SECONDS = 0.2
"""The shortest compilation whose result is kept: the small programs are many, and files cost as well."""


def keep() -> None:
    """Lets JAX keep the programs of this process, unless the user or the environment forbids it."""
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    try:
        path = folder(os.environ)
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: this user has no home.
        return
    if os.access(path, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(path))
        jax.config.update("jax_compilation_cache_max_size", MOST_BYTES)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)


def folder(environment: Mapping[str, str]) -> Path:
    """The folder for this kind of processor."""
    home = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "dictlearn" / "programs" / _processor()


def _processor() -> str:
    """A name for processors that run the same machine code: a hash of what Linux says they can do."""
    try:
        lines = CPU.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = [platform.processor()]
    features = sorted(
        {line for line in lines if line.startswith(("flags", "Features"))} or lines[:1]
    )
    name = hashlib.sha256("\n".join(features).encode()).hexdigest()[:12]
    return f"{platform.machine()}-{name}"
