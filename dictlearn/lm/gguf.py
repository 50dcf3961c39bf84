"""GGUF files: metadata and tensors, dequantised to float32 one tensor at a time.

    Q8_0: a block of 32 values is a float16 scale d and 32 int8 q;           value = d q
    Q4_1: a block of 32 values is float16 d and m and 32 4-bit q, two a byte
          (low nibbles are values 0..15, high nibbles 16..31);               value = d q + m
    Q4_0: as Q4_1, without m;                                                value = d (q - 8)

Source: the GGUF specification (docs/gguf.md of ggml-org/ggml); `dequantize_row_*` of ggml-quants.c.
Differs: version 3 and little-endian only; six tensor types, and all types of the `gguf` package
where that is installed; no arrays of arrays in the metadata.

A file is not trusted. Every length is checked against the size of the file before it is used; a length that
does not fit is a ValueError that names the file.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

_MAGIC, _VERSION = b"GGUF", 3
_STRING, _ARRAY = 8, 9
_SCALARS = dict(enumerate(("<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?")))
_SCALARS |= {10: "<u8", 11: "<i8", 12: "<f8"}
_Q8_0 = np.dtype([("scale", "<f2"), ("quants", "i1", 32)])
_Q4_0 = np.dtype([("scale", "<f2"), ("quants", "u1", 16)])
_Q4_1 = np.dtype([("scale", "<f2"), ("low", "<f2"), ("quants", "u1", 16)])


class Kind(NamedTuple):
    """A tensor type: `block` values are stored in `size` bytes; `values` converts bytes to float32."""

    name: str
    block: int
    size: int
    values: Callable[[np.ndarray], np.ndarray]


class Tensor(NamedTuple):
    """A tensor in a file: `shape` with the slowest axis first, `raw` its memory-mapped bytes."""

    kind: Kind
    shape: tuple[int, ...]
    raw: np.ndarray


def _from_q8_0(raw: np.ndarray) -> np.ndarray:
    blocks = raw.view(_Q8_0)
    return blocks["scale"].astype(np.float32)[:, None] * blocks["quants"]


def _nibbles(quants: np.ndarray) -> np.ndarray:
    values = np.empty((len(quants), 32), np.float32)
    values[:, :16], values[:, 16:] = quants & 15, quants >> 4
    return values


def _from_q4_0(raw: np.ndarray) -> np.ndarray:
    blocks = raw.view(_Q4_0)
    values = _nibbles(blocks["quants"])
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values


def _from_q4_1(raw: np.ndarray) -> np.ndarray:
    blocks = raw.view(_Q4_1)
    values = _nibbles(blocks["quants"])
    values *= blocks["scale"].astype(np.float32)[:, None]
    values += blocks["low"].astype(np.float32)[:, None]
    return values


KINDS = {
    0: Kind("F32", 1, 4, lambda raw: raw.view("<f4").astype(np.float32)),
    1: Kind("F16", 1, 2, lambda raw: raw.view("<f2").astype(np.float32)),
    2: Kind("Q4_0", 32, _Q4_0.itemsize, _from_q4_0),
    3: Kind("Q4_1", 32, _Q4_1.itemsize, _from_q4_1),
    8: Kind("Q8_0", 32, _Q8_0.itemsize, _from_q8_0),
    30: Kind("BF16", 1, 2, lambda raw: raw.view(ml_dtypes.bfloat16).astype(np.float32)),
}
"""The tensor types that are read here, by their number in a file."""


def _packaged(number: int) -> Kind | None:
    """A tensor type of the package `gguf`; None if the package is not installed or does not have it."""
    try:
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError:
        return None
    if number not in set(GGMLQuantizationType):
        return None
    kind = GGMLQuantizationType(number)
    block, size = GGML_QUANT_SIZES[kind]
    try:
        dequantize(np.zeros((1, size), np.uint8), kind)
    except NotImplementedError:
        return None
    return Kind(kind.name, block, size, lambda raw: dequantize(raw.reshape(-1, size), kind))


def dequantise(tensor: Tensor, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """The float32 values of a tensor, as a copy.

    Args:
        tensor: the tensor.
        rows: rows along the first axis; other rows are neither read nor computed.

    Returns:
        An array.
    """
    if len(tensor.shape) == 1:
        return tensor.kind.values(tensor.raw).reshape(tensor.shape)[rows]
    raw = tensor.raw.reshape(tensor.shape[0], -1)[rows]
    return tensor.kind.values(raw.reshape(-1)).reshape(len(raw), *tensor.shape[1:])


class _Cursor:
    """A position in a mapped file that never passes its end."""

    def __init__(self, path: Path):
        self.path, self.at = path, 0
        if path.stat().st_size == 0:
            raise self.error("empty")
        # As a plain array: slices of a memmap object cost three times as much to make.
        self.raw = np.asarray(np.memmap(path, np.uint8, mode="r"))

    def error(self, problem: str) -> ValueError:
        return ValueError(f"{self.path}: {problem}.")

    def take(self, n_bytes: int) -> np.ndarray:
        left = self.raw.size - self.at
        if n_bytes > left:
            raise self.error(f"truncated: {n_bytes} bytes wanted at byte {self.at}, {left} left")
        self.at += n_bytes
        return self.raw[self.at - n_bytes : self.at]

    def number(self, kind: str) -> Any:
        return self.take(np.dtype(kind).itemsize).view(kind)[0].item()

    def string(self) -> str:
        start = self.at
        try:
            return self.take(self.number("<u8")).tobytes().decode()
        except UnicodeDecodeError as error:
            raise self.error(f"the string at byte {start} is not UTF-8") from error

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self.array(self.number("<u4"), self.number("<u8"))
        if kind not in _SCALARS:
            raise self.error(f"unknown metadata type {kind} at byte {self.at}")
        return self.number(_SCALARS[kind])

    def array(self, kind: int, n: int) -> list:
        if kind == _STRING:
            return [self.string() for _ in range(n)]
        if kind not in _SCALARS:
            raise self.error(f"unknown metadata array type {kind} at byte {self.at}")
        return self.take(n * np.dtype(_SCALARS[kind]).itemsize).view(_SCALARS[kind]).tolist()


def _metadata(cursor: _Cursor, n_entries: int) -> dict[str, Any]:
    metadata = {}
    for _ in range(n_entries):
        key = cursor.string()
        if key in metadata:
            raise cursor.error(f"metadata key {key!r} occurs twice")
        metadata[key] = cursor.value(cursor.number("<u4"))
    return metadata


def _headers(cursor: _Cursor, n_tensors: int) -> dict[str, tuple[Kind, tuple[int, ...], int]]:
    """Name -> (type, shape, offset in the data section)."""
    headers = {}
    for _ in range(n_tensors):
        name, n_axes = cursor.string(), cursor.number("<u4")
        shape = tuple(cursor.number("<u8") for _ in range(n_axes))[::-1]
        kind, offset = cursor.number("<u4"), cursor.number("<u8")
        if name in headers:
            raise cursor.error(f"tensor {name!r} occurs twice")
        known = KINDS.get(kind) or _packaged(kind)
        if known is None:
            names = ", ".join(f"{known.name} ({number})" for number, known in KINDS.items())
            raise cursor.error(
                f"tensor {name!r} has unknown type {kind}; known: {names}, and others after"
                " `pip install gguf`"
            )
        if not shape or shape[-1] % known.block:
            raise cursor.error(
                f"tensor {name!r} of shape {shape} does not divide into {known.name} blocks"
                f" of {known.block}"
            )
        headers[name] = (known, shape, offset)
    return headers


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(metadata: numbers, strings, and lists of them; tensors by name) of a GGUF file.

    Raises ValueError, naming the file, for a file that is not GGUF version 3, is truncated, holds an unknown
    tensor type, or places a tensor outside itself.
    """
    cursor = _Cursor(Path(path))
    if (magic := cursor.raw[:4].tobytes()) != _MAGIC:
        raise cursor.error(f"not a GGUF file: it begins with {magic!r}, not {_MAGIC!r}")
    cursor.take(4)
    if (version := cursor.number("<u4")) != _VERSION:
        raise cursor.error(f"GGUF version {version}; only version {_VERSION} can be read")
    n_tensors, n_entries = cursor.number("<u8"), cursor.number("<u8")
    metadata = _metadata(cursor, n_entries)
    headers = _headers(cursor, n_tensors)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise cursor.error(f"general.alignment is {alignment!r}, not a positive whole number")
    start = -(-cursor.at // alignment) * alignment
    tensors = {}
    for name, (kind, shape, offset) in headers.items():
        first = start + offset
        end = first + math.prod(shape) // kind.block * kind.size
        if end > cursor.raw.size:
            raise cursor.error(f"tensor {name!r} ends at byte {end} of {cursor.raw.size}")
        tensors[name] = Tensor(kind, shape, cursor.raw[first:end])
    return metadata, tensors
