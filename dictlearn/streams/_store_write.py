"""Writes a store so that it can be killed at any moment and continued to the same bytes.

Every file is written under a temporary name, flushed to disk and renamed. `partial.json` is the manifest so
far, rewritten after each file; the last step renames it to `manifest.json`. A rerun keeps the listed files
that are intact, and writes the others. In a run of several processes, process i > 0 has its own
`partial_i.json`. Process 0 merges them at the end, or when the next harvest begins, also with another number
of processes.

    format      1
    recipe      everything that determines the bytes: model, text, taps and widths, dtype, seed, ...
    tokens      file name -> bytes, sha256
    shards      file name -> rows, bytes, sha256, sums: tap -> [sum of |x|, sum of |x|^2]
    earlier_models    the weights of earlier shards, where they differ from the recipe's
    statistics  tap -> tokens, mean_norm E|x|, mean_square E|x|^2, of the rows as stored
"""

import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from dictlearn import files
from dictlearn.normalise import norm_sums
from dictlearn.streams._barrier import barrier
from dictlearn.streams._fingerprint import differ
from dictlearn.streams.store import FORMAT, MANIFEST, PARTIAL, check_file, open_manifest

log = logging.getLogger("dictlearn")

_SUM_ROWS = 4096


def begin(path: Path, recipe: dict[str, Any], allow_changed: bool = False) -> dict[str, Any] | None:
    """The manifest so far; this process's files in it are intact. None if the store is complete.

    All processes call it. allow_changed: see `harvest`. Raises ValueError for a folder that holds a store of
    another recipe, or other files, and for a folder that only process 0 sees.
    """
    recipe = json.loads(json.dumps(recipe))
    with barrier(f"Beginning the store at {path}"):
        if jax.process_index() == 0:
            _prepare(path, recipe, allow_changed)
    with barrier(f"Continuing the store at {path}"):
        manifest = _share(path, recipe, allow_changed)
    return manifest


def _prepare(path: Path, recipe: dict[str, Any], allow_changed: bool) -> None:
    """The work of process 0: leaves one partial manifest and no temporary files."""
    path.mkdir(parents=True, exist_ok=True)
    if (path / MANIFEST).exists():
        _reopen(path, recipe, allow_changed)
    if (path / MANIFEST).exists():
        return
    for leftover in path.glob(f"*{files.TEMPORARY}"):
        leftover.unlink()
    if (path / PARTIAL).exists():
        manifest = open_manifest(path, PARTIAL)
        was = manifest["recipe"]
        text_differs = any(differ(was, {**recipe, "model": was.get("model")}))
        _same_recipe(path, manifest, recipe, allow_changed and not text_differs)
        if any(differ(was, recipe)):
            manifest.setdefault("earlier_models", []).append(was["model"])
        _merge(path, manifest, recipe)
    elif any(file.name[0] != "." for file in path.iterdir()):
        raise ValueError(f"{path} holds files that are not a store; give an empty or a new folder.")
    else:
        _write(
            path / PARTIAL, _json({"format": FORMAT, "recipe": recipe, "tokens": {}, "shards": {}})
        )


def _reopen(path: Path, recipe: dict[str, Any], allow_changed: bool) -> None:
    """Makes the manifest partial, if files of the store are missing, so that they are written again."""
    manifest = open_manifest(path)
    _same_recipe(path, manifest, recipe, allow_changed)
    listed = {**manifest["tokens"], **manifest["shards"]}
    if lost := sorted(
        name for name, entry in listed.items() if not _intact(path, name, entry, False)
    ):
        log.warning("%s lacks %s, or a part of it: harvested again.", path, ", ".join(lost))
        files.rename(path / MANIFEST, path / PARTIAL)


def _share(path: Path, recipe: dict[str, Any], allow_changed: bool) -> dict[str, Any] | None:
    index, count = jax.process_index(), jax.process_count()
    if (path / MANIFEST).exists():
        if index:  # Process 0 has compared it, in `_reopen`.
            _same_recipe(path, open_manifest(path), recipe, allow_changed)
        return None
    if not (path / PARTIAL).exists():
        raise ValueError(f"Process {index} does not see {path}; give a folder that all can see.")
    manifest = open_manifest(path, PARTIAL)
    _same_recipe(path, manifest, recipe)

    def kept(name: str, entry: dict[str, Any]) -> bool:
        mine = _number(name) % count == index
        return _intact(path, name, entry) if mine else index == 0

    for kind in ("tokens", "shards"):
        manifest[kind] = {n: e for n, e in manifest[kind].items() if kept(n, e)}
    if index:
        _write(path / _partial(), _json(manifest))
    return manifest


def _partial() -> str:
    """The partial manifest of this process."""
    index = jax.process_index()
    return PARTIAL.replace(".", f"_{index}.") if index else PARTIAL


def _merge(path: Path, manifest: dict[str, Any], recipe: dict[str, Any]) -> None:
    """Merges the partial manifests of all processes into one of the given `recipe`, and removes them."""
    found = list(path.glob(PARTIAL.replace(".", "_*.")))
    for file in found:
        partial = open_manifest(path, file.name)
        _same_recipe(path, partial, manifest["recipe"])
        manifest["shards"] |= partial["shards"]
    manifest["recipe"] = recipe
    _write(path / PARTIAL, _json(manifest))
    for file in found:
        file.unlink()


def add_tokens(
    path: Path, manifest: dict[str, Any], split: str, tokens_ST: np.ndarray, mask_ST: np.ndarray
) -> None:
    """Writes `tokens_{split}.safetensors`, unless it exists."""
    name = f"tokens_{split}.safetensors"
    if name not in manifest["tokens"]:
        entry = _write(path / name, save({"tokens_ST": tokens_ST, "mask_ST": mask_ST}))
        manifest["tokens"][name] = entry
        _write(path / _partial(), _json(manifest))


def shard_name(shard: int) -> str:
    return f"shard_{shard:05d}.safetensors"


def _number(name: str) -> int:
    """The number of a file, which decides its process: the number of a shard, 0 for any other file."""
    found = re.fullmatch(r"shard_(\d+)\.safetensors", name)
    return int(found[1]) if found else 0


def add_shard(
    path: Path, manifest: dict[str, Any], shard: int, tensors: dict[str, np.ndarray]
) -> None:
    """Writes a shard: its shuffled rows [R, D] for each tap, `sequence_R` and `position_R`."""
    entry = _write(path / shard_name(shard), save(tensors))
    entry["rows"] = len(tensors["sequence_R"])
    entry["sums"] = {tap: _sums(tensors[tap]) for tap in manifest["recipe"]["taps"]}
    manifest["shards"][shard_name(shard)] = entry
    _write(path / _partial(), _json(manifest))


def complete(path: Path, manifest: dict[str, Any]) -> None:
    """Computes the statistics, and turns the partial manifests into the manifest.

    All processes call it, after the last shard of all.
    """
    with barrier(f"Completing the store at {path}"):
        if jax.process_index() == 0:
            _merge(path, manifest, manifest["recipe"])
            _complete(path, manifest)


def _complete(path: Path, manifest: dict[str, Any]) -> None:
    for kind in ("tokens", "shards"):
        manifest[kind] = dict(sorted(manifest[kind].items()))
    shards = manifest["shards"].values()
    rows = sum(shard["rows"] for shard in shards)
    manifest["statistics"] = {
        tap: {
            "tokens": rows,
            "mean_norm": sum(shard["sums"][tap][0] for shard in shards) / rows,
            "mean_square": sum(shard["sums"][tap][1] for shard in shards) / rows,
        }
        for tap in manifest["recipe"]["taps"]
    }
    _write(path / PARTIAL, _json(manifest))
    files.rename(path / PARTIAL, path / MANIFEST)


def _sums(rows_RD: np.ndarray) -> list[float]:
    chunks = range(0, len(rows_RD), _SUM_ROWS)
    total = sum(norm_sums(rows_RD[i : i + _SUM_ROWS].astype(np.float32)) for i in chunks)
    return np.asarray(total)[1:].tolist()


def _intact(path: Path, name: str, entry: dict[str, Any], verify: bool = True) -> bool:
    try:
        check_file(path, name, entry, verify)
    except ValueError:
        return False
    return True


def _same_recipe(
    path: Path, manifest: dict[str, Any], recipe: dict[str, Any], allow_changed: bool = False
) -> None:
    changed = "; ".join(differ(manifest["recipe"], recipe))
    if changed and not allow_changed:
        raise ValueError(
            f"{path} holds another store: {changed}. Give another path; --allow_changed leaves a finished "
            "store unchanged, and continues an unfinished one with other weights."
        )
    if changed:
        log.warning("%s holds another store: %s.", path, changed)


def _json(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1) + "\n").encode()


def _write(file: Path, contents: bytes) -> dict[str, Any]:
    """Writes a file atomically; returns its entry in the manifest."""
    with files.whole(file) as half:
        half.write_bytes(contents)
    return {"bytes": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
