"""Activations on disk: a folder of safetensors shards and a manifest, read memory-mapped.

    manifest.json                    format, recipe, tokens, shards, statistics (see `_store_write`)
    shard_00000.safetensors ...      the rows [R, D] of each tap, shuffled within the shard, and the
                                     origin of each row: sequence_R and position_R (int32)
    tokens_train.safetensors         tokens_ST int32, mask_ST bool; sequence_R is an index of S
    tokens_held_out.safetensors      the same, of documents that no row comes from

Rows are shuffled within a shard when it is written, so consecutive rows are unrelated tokens. Batches are made
of blocks of consecutive rows, drawn from all shards. Measured from the page cache, with 4096 rows of D = 768
per batch, on two cores, in thousands of rows a second: 80 in blocks of 1, 1000 in blocks of 16, 1700 in blocks
of 64 and of 256. Reading a store never writes to it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import ml_dtypes
import numpy as np

from dictlearn.files import sha256
from dictlearn.lm.text import Packed
from dictlearn.normalise import (
    SCALAR_KINDS,
    Norm,
    apply,
    check_kind,
    estimate,
    gradient_scale,
    scale,
    side_by_side,
)
from dictlearn.streams import Origin, Process, Stream, _taps, blocks
from dictlearn.types import Batch

FROM_HARVEST = True
FORMAT = 1
MANIFEST, PARTIAL = "manifest.json", "partial.json"
DTYPES = {
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
    "F32": np.float32,
    "I32": np.int32,
    "BOOL": np.bool_,
}
"""The safetensors dtypes of a store."""


def store(
    path: str | Path,
    tap: str | Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
    *,
    batch_size: int,
    seed: int,
    normalise: str = "none",
    block_rows: int = 64,
    verify: bool = True,
    keys: bool = False,
    gradients: bool = False,
    process: Process | None = None,
) -> Stream:
    """A stream of the rows of a store, float32.

    Only the last partial block of an epoch is dropped, fewer than `block_rows` rows.

    Args:
        path: the folder that `dictlearn harvest` wrote.
        tap: the taps of the inputs, concatenated, each with its own scale; None for the only tap.
        target: the taps of the targets; None for an autoencoder.
        batch_size, seed, normalise, process: as in every stream.
        block_rows: the number of consecutive rows that stay together.
        verify: checks the sha256 of every shard first (about 1 GB a second).
        keys: batches carry the sequence and the position of each token.
        gradients: batches carry the gradient of the loss at `tap`; the store must have `grad.TAP`.

    Returns:
        A Stream.

    Raises:
        FileNotFoundError: for a store that does not exist or is not finished.
        ValueError: for a damaged shard, an unknown tap, and a batch that does not fit (see `blocks`).
    """
    check_kind(normalise, transcoder=target is not None)
    manifest = open_manifest(path)
    widths = manifest["recipe"]["taps"]
    (source,) = origin(path, tap, target)
    read, write, slope = source.read, source.written, None
    if gradients:
        slope = _taps.only(_taps.chosen(list(widths), f"grad.{_taps.only(read)}", _where(path)))
    for name, entry in manifest["shards"].items():
        check_file(path, name, entry, verify)
    shards = [map_tensors(path, name) for name in manifest["shards"]]
    ends = np.cumsum([len(shard[read[0]]) for shard in shards])
    starts = blocks(int(ends[-1]), block_rows, batch_size, seed, process)

    def gather(block_K: np.ndarray, name: str, dtype: type = np.float32) -> np.ndarray:
        tensors = [shard[name] for shard in shards]
        rows = np.empty((len(block_K) * block_rows, *tensors[0].shape[1:]), dtype)
        for slot, block in enumerate(block_K.tolist()):
            into = rows[slot * block_rows : (slot + 1) * block_rows]
            _copy(tensors, ends, block * block_rows, into)
        return rows

    def joined(block_K: np.ndarray, taps: Sequence[str]) -> np.ndarray:
        return _taps.side_by_side([gather(block_K, name) for name in taps])

    def raw(block_K: np.ndarray) -> Batch:
        x_BD = joined(block_K, read)
        found = Batch(x_BD, x_BD if target is None else joined(block_K, write))
        if keys:
            number_B, place_B = (
                gather(block_K, name, np.int32) for name in ("sequence_R", "position_R")
            )
            found = found._replace(sequence_B=number_B, position_B=place_B)
        return found._replace(g_BD=gather(block_K, slope)) if slope else found

    if normalise in SCALAR_KINDS:
        scale_in, scale_out = (side_by_side(scales(path, normalise, at)) for at in (read, write))
        norm = Norm(normalise, scale_in, scale_out)
    else:
        whole = blocks(int(ends[-1]), block_rows, batch_size, seed, process=(0, 1)).map(raw)
        norm = estimate(
            normalise,
            (cast(Batch, whole[t]) for t in range(int(ends[-1]) // batch_size)),
            sources=(len(read), len(write)),
        )

    if slope:
        square = manifest["statistics"][slope]["mean_square"]
        norm = dataclasses.replace(norm, scale_gradient=gradient_scale(widths[slope], square))
    n_rows = int(ends[-1]) // block_rows * block_rows
    return Stream(
        _taps.width(widths, read),
        _taps.width(widths, write),
        starts.map(lambda block_K: apply(norm, raw(block_K))),
        norm,
        n_rows,
        origin=(source,),
    )


def origin(
    path: str | Path,
    tap: str | Sequence[str] | None = None,
    target: str | Sequence[str] | None = None,
) -> tuple[Origin]:
    """The origin of the rows of a store.

    Args:
        path, tap, target: as in `store`.

    Returns:
        One Origin.

    Raises:
        FileNotFoundError, ValueError: as `store` does, for a manifest that does not fit.
    """
    manifest = open_manifest(path)
    recipe = manifest["recipe"]
    read = _taps.chosen(list(recipe["taps"]), tap, _where(path))
    written = read if target is None else _taps.chosen(list(recipe["taps"]), target, _where(path))
    text = {key: recipe.get(key) for key in ("text", "sequence_length")}
    held_out = lambda: Packed(*tokens(path, "held_out"))
    rows = {key: value for key, value in recipe.items() if key != "model" and key not in text}
    rows["files"] = _files(manifest)
    return (Origin(recipe.get("model", {}), read, written, text, held_out, Path(path), rows=rows),)


def _files(manifest: dict[str, Any]) -> str:
    """A checksum of all files that the manifest lists, from their checksums."""
    listed = sorted((*manifest["tokens"].items(), *manifest["shards"].items()))
    lines = "".join(f"{entry['sha256']}  {name}\n" for name, entry in listed)
    return hashlib.sha256(lines.encode()).hexdigest()


def _where(path: str | Path) -> str:
    return f"The store at {path}"


def tokens(path: str | Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(tokens_ST, mask_ST) of the split "train" or "held_out" of a store, verified."""
    manifest, name = open_manifest(path), f"tokens_{split}.safetensors"
    if name not in manifest["tokens"]:
        raise ValueError(f"Unknown {split=}; the store at {path} has 'train' and 'held_out'.")
    check_file(path, name, manifest["tokens"][name], verify=True)
    tensors = map_tensors(path, name)
    return tensors["tokens_ST"], tensors["mask_ST"]


def open_manifest(path: str | Path, name: str = MANIFEST) -> dict[str, Any]:
    """The manifest of a store."""
    file = Path(path) / name
    if not file.is_file():
        unfinished = " is not finished" if (Path(path) / PARTIAL).is_file() else " does not exist"
        raise FileNotFoundError(
            f"The store at {path}{unfinished} (no {name}); "
            "`dictlearn harvest --config=...` writes it, and continues where it was stopped."
        )
    try:
        manifest = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}.") from error
    parts = {"format", "recipe", "tokens", "shards"}
    if not isinstance(manifest, dict) or not parts <= manifest.keys():
        raise ValueError(f"{file} is damaged: it must hold {', '.join(sorted(parts))}.")
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"{file} has format {manifest['format']}, and this version reads {FORMAT}."
        )
    return manifest


def check_file(path: str | Path, name: str, entry: dict[str, Any], verify: bool) -> None:
    """Raises ValueError if a file of a store is missing, or differs from its `entry` in the manifest."""
    file = _inside(path, name)
    found = file.stat().st_size if file.is_file() else None
    if found is None:
        damage = "is missing"
    elif found != entry["bytes"]:
        damage = f"has {found} bytes, not {entry['bytes']}"
    elif verify and sha256(file) != entry["sha256"]:
        damage = "does not match its sha256"
    else:
        return
    raise ValueError(
        f"{file} {damage}; rename {MANIFEST} to {PARTIAL} and harvest again, which writes only "
        "what is damaged."
    )


def map_tensors(path: str | Path, name: str) -> dict[str, np.ndarray]:
    """The tensors of a file of a store, read-only and memory-mapped."""
    file = _inside(path, name)
    bytes_ = np.memmap(file, np.uint8, mode="r").view(np.ndarray)
    data = 8 + int.from_bytes(bytes_[:8].tobytes(), "little")
    header = json.loads(bytes_[8:data].tobytes())
    tensors = {}
    for tensor, entry in header.items():
        start, stop = entry["data_offsets"]
        values = bytes_[data + start : data + stop].view(DTYPES[entry["dtype"]])
        tensors[tensor] = values.reshape(entry["shape"])
    return tensors


def _copy(tensors: list[np.ndarray], ends: np.ndarray, first: int, into: np.ndarray) -> None:
    """Copies the rows from index `first` on into `into`, across shards."""
    shard = int(np.searchsorted(ends, first, side="right"))
    while len(into):
        start = first - int(ends[shard]) + len(tensors[shard])
        piece = tensors[shard][start : start + len(into)]
        into[: len(piece)] = piece
        into, first, shard = into[len(piece) :], first + len(piece), shard + 1


def _inside(path: str | Path, name: str) -> Path:
    if name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"The manifest of {path} names {name!r}, which is not a file inside it.")
    return Path(path) / name


def scales(path: str | Path, kind: str, taps: Sequence[str]) -> list[float]:
    """The scale of each tap under a scalar normalisation."""
    manifest = open_manifest(path)
    widths, known = manifest["recipe"]["taps"], manifest["statistics"]
    sizes = lambda tap: (widths[tap], known[tap]["mean_norm"], known[tap]["mean_square"])
    return [scale(kind, *sizes(tap)) for tap in taps]
