"""All that a command left in a folder, each part by the SHA-256 of its bytes: NaNs and signs of zeros count."""

import hashlib
import json
import re
from pathlib import Path

import jax
import numpy as np

from dictlearn.runs._seal import SEAL
from dictlearn.runs.checkpoint import RECORD

TIMES = ("timing.json",)
"""What holds wall times, and so is not the same twice."""


def bits(folder: Path) -> dict[str, str]:
    """The files of a folder and, for each checkpoint in it, every leaf and the record: name -> SHA-256."""
    steps = [path.parent for path in folder.rglob(SEAL)]
    found = {}
    for file in folder.rglob("*"):
        if not any(file.is_relative_to(step) for step in steps) and file.name not in TIMES:
            name = str(file.relative_to(folder))
            found[name] = _sha256(file.read_bytes()) if file.is_file() else "a folder"
    for step in steps:
        found |= {f"{step.relative_to(folder)}: {leaf}": b for leaf, b in checkpoint(step).items()}
    return found


def checkpoint(step: Path) -> dict[str, str]:
    """Every leaf of a checkpoint, and its record."""
    from orbax.checkpoint import v1

    record, device = json.loads((step / RECORD).read_text()), jax.local_devices()[0]
    wanted: dict = {}
    for name, leaf in record["leaves"].items():
        *path, last = name.split("/")
        inner = wanted
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = _abstract(leaf, jax.sharding.SingleDeviceSharding(device))
    leaves = jax.tree_util.tree_leaves_with_path(v1.load(step, _tuples(wanted)))
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    assert named.keys() == record["leaves"].keys()
    found = {name: _sha256(np.asarray(leaf).tobytes()) for name, leaf in named.items()}
    return found | {RECORD: _sha256(json.dumps(record).encode())}


def _tuples(tree: object) -> object:
    """A tree in which what is named by numbers is a tuple."""
    if not isinstance(tree, dict):
        return tree
    inner = {key: _tuples(value) for key, value in tree.items()}
    return tuple(inner.values()) if all(key.isdigit() for key in inner) else inner


def _abstract(leaf: str, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    """A leaf from "float32[768, 12288]"."""
    dtype, sizes = re.fullmatch(r"(\w+)\[(.*)\]", leaf).groups()
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
