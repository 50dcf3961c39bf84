"""Writes torch's files (`.pt`) without torch: a zip that `torch.load(path, weights_only=True)` reads.

The pickle is an OrderedDict, as a state dict is: of arrays, text, whole numbers, and dicts of these.
"""

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn.interop._torch_file import NOTE, STORAGES

_ORDERED = b"ccollections\nOrderedDict\n)R"
_KINDS = {dtype: f"c{name.replace(' ', chr(10))}\n".encode() for name, dtype in STORAGES.items()}


def write(path: Path, values: Mapping[str, Any], note: Any = None) -> None:
    """Writes a state dict. note: JSON in an entry of its own, which torch ignores."""
    storages: list[np.ndarray] = []
    pickled = b"\x80\x02" + _ORDERED + _items(values, storages) + b"."
    entries = {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}
    entries |= {f"data/{n}": array.tobytes() for n, array in enumerate(storages)}
    if note is not None:
        entries[NOTE] = json.dumps(note).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)


def _items(values: Mapping[str, Any], storages: list[np.ndarray]) -> bytes:
    """The opcodes that put values into the dict on the stack; their arrays are added to the storages."""
    pairs = (_text(key) + _value(value, storages) for key, value in values.items())
    return b"(" + b"".join(pairs) + b"u"


def _value(value: Any, storages: list[np.ndarray]) -> bytes:
    if isinstance(value, Mapping):
        return b"}" + _items(value, storages)
    if isinstance(value, str):
        return _text(value)
    return _whole(value) if isinstance(value, int) else _tensor(np.asarray(value), storages)


def _tensor(array: np.ndarray, storages: list[np.ndarray]) -> bytes:
    """The opcodes of a tensor that is the whole of a new storage."""
    array = np.array(array, order="C")
    storage = _text("storage") + _KINDS[array.dtype] + _text(str(len(storages))) + _text("cpu")
    strides = [step // array.itemsize for step in array.strides]
    storages.append(array)
    whole = b"(" + storage + _whole(array.size) + b"tQ"
    arguments = whole + _whole(0) + _numbers(array.shape) + _numbers(strides) + b"\x89" + _ORDERED
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _whole(n: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", n)


def _numbers(values) -> bytes:
    return b"(" + b"".join(map(_whole, values)) + b"t"
