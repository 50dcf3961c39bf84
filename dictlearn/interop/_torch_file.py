"""Reads torch's files (`.pt`, `.pth`) without torch: the files that `torch.load(path, weights_only=True)`
reads.

A file is a zip of uncompressed entries: PREFIX/data.pkl, a pickle of protocol 2, and PREFIX/data/KEY, the
numbers of a storage. A tensor is a strided part of a storage.

The pickle is not given to `pickle`: its opcodes are read here. They make dicts, lists, tuples, text and
numbers. The only functions known are those in `_FUNCTIONS`, and each makes such a value. Any other name in a
pickle is refused with an error that shows it, and nothing is called. Sizes are compared with the size of the
file before anything is read. A storage is read when its array is requested.
"""

import contextlib
import json
import math
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from dictlearn import files

MOST_PICKLE = 1 << 20
"""Bytes of data.pkl, which holds names and shapes."""
NOTE = "dictlearn.json"
STORAGES = {
    "torch FloatStorage": np.dtype("float32"),
    "torch DoubleStorage": np.dtype("float64"),
    "torch HalfStorage": np.dtype("float16"),
    "torch BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch LongStorage": np.dtype("int64"),
    "torch IntStorage": np.dtype("int32"),
    "torch ShortStorage": np.dtype("int16"),
    "torch CharStorage": np.dtype("int8"),
    "torch ByteStorage": np.dtype("uint8"),
    "torch BoolStorage": np.dtype("bool"),
}


class Storage(NamedTuple):
    """A named run of numbers in the file."""

    key: str
    dtype: np.dtype
    size: int


class Tensor(NamedTuple):
    """A part of a storage, counted in numbers: where it starts, its shape, and its strides."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def is_torch(path: Path) -> bool:
    """Whether it is a zip with a pickle where torch writes it."""
    if not (path.is_file() and zipfile.is_zipfile(path)):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(re.fullmatch(r"[^/]+/data\.pkl", name) for name in archive.namelist())
    except files.DAMAGE:
        return False


def read(path: Path) -> Any:
    """The content of a file: containers, text and numbers, and a Tensor for each tensor. Each tensor lies
    within its storage. Raises ValueError for a file that is damaged or holds anything else."""
    with _opened(path) as archive:
        data = archive.entry("data.pkl", MOST_PICKLE)
        try:
            return _Machine(archive).run(data)
        except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"its pickle is damaged: {type(error).__name__}: {error}") from error


def array(path: Path, tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor of `read`."""
    storage, offset, shape, strides = tensor
    with _opened(path) as archive:
        whole = np.frombuffer(archive.entry(f"data/{storage.key}"), storage.dtype)
    steps = [step * whole.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(whole[offset:], shape, steps, writeable=False).copy()


def texts(path: Path) -> set[str]:
    """The texts in a file's pickle, which include the names of its tensors; empty for any other file."""
    try:
        with _opened(path) as archive:
            found = pickletools.genops(archive.entry("data.pkl", MOST_PICKLE))
            return {str(argument) for opcode, argument, _ in found if opcode.name == "BINUNICODE"}
    except ValueError:
        return set()


def note(path: Path) -> Any:
    """The JSON entry next to the pickle; None if there is none."""
    with _opened(path) as archive:
        return json.loads(archive.entry(NOTE, MOST_PICKLE)) if archive.holds(NOTE) else None


class _Archive:
    """The uncompressed entries of a zip, under one prefix."""

    def __init__(self, archive: zipfile.ZipFile, size: int):
        self._archive, self._entries = archive, {}
        for each in archive.infolist():
            name = _checked(each, size)
            if name in self._entries:
                raise ValueError(f"it has two entries {name!r}.")
            self._entries[name] = each
        if "byteorder" in self._entries and self.entry("byteorder", 16) != b"little":
            raise ValueError("its numbers are big-endian; only little-endian ones are read.")

    def holds(self, name: str) -> bool:
        return name in self._entries

    def size(self, name: str) -> int:
        """The number of bytes of an entry."""
        if name not in self._entries:
            raise ValueError(f"its entry {name!r} is missing.")
        return self._entries[name].file_size

    def entry(self, name: str, most: int | None = None) -> bytes:
        """The content of an entry."""
        if most is not None and self.size(name) > most:
            raise ValueError(f"{name} has {self.size(name)} bytes; it may have {most}.")
        return self._archive.read(self._entries[name])


def _checked(each: zipfile.ZipInfo, size: int) -> str:
    """The name of an entry without its prefix. Raises ValueError for one that torch would not write."""
    parts = each.filename.split("/")
    if len(parts) < 2 or "\\" in each.filename or not all(parts) or {".", ".."} & {*parts}:
        raise ValueError(f"its entry {each.filename!r} leads out of its folder.")
    if each.compress_type != zipfile.ZIP_STORED or each.file_size != each.compress_size:
        raise ValueError(f"its entry {each.filename!r} is compressed, which torch's are not.")
    if each.header_offset + each.file_size > size:
        raise ValueError(f"its entry {each.filename!r} has more bytes than the whole file.")
    return "/".join(parts[1:])


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Archive]:
    """The entries of a file. Raises ValueError for one that is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield _Archive(archive, path.stat().st_size)
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
        raise ValueError(f"{path.name} is damaged, or older than torch 1.6: {error}") from error


class _Name(NamedTuple):
    """A global of a pickle: one of `_FUNCTIONS` or `STORAGES`."""

    name: str


class _Machine:
    """The opcodes that torch writes, over a stack of plain values."""

    def __init__(self, archive: _Archive):
        self.archive, self.stack, self.marks, self.memo = archive, [], [], {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _PUSHED:
                self.stack.append(argument)
            elif opcode.name in _MADE:
                self.stack.append(_MADE[opcode.name]())
            elif opcode.name in _STEPS:
                _STEPS[opcode.name](self, argument)
            else:
                raise ValueError(f"its pickle has {opcode.name}, which torch does not write.")
        return self.stack[-1]

    def name(self, name: str) -> None:
        if name not in _FUNCTIONS and name not in STORAGES:
            raise ValueError(
                f"its pickle names {name.replace(' ', '.')}, which is not read; nothing was run. Tensors, "
                "numbers and text are read: save the state dict."
            )
        self.stack.append(_Name(name))

    def call(self, _) -> None:
        function, arguments = self.taken(2)
        if not isinstance(function, _Name) or function.name not in _FUNCTIONS:
            raise ValueError(
                f"its pickle calls {type(function).__name__}, which is not a function."
            )
        self.stack.append(_FUNCTIONS[function.name](*arguments))

    def storage(self, _) -> None:
        kind, name, key, _, size = self.stack.pop()
        told = Storage(str(key), STORAGES[name.name], size)
        there = self.archive.size(f"data/{told.key}")
        if kind != "storage" or type(size) is not int or size * told.dtype.itemsize != there:
            raise ValueError(f"data/{told.key} has {there} bytes, not {size!r} of {told.dtype}.")
        self.stack.append(told)

    def taken(self, n: int) -> list:
        """Pops the last n values."""
        if len(self.stack) < n:
            raise IndexError("too few values")
        found = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return found

    def marked(self) -> list:
        """Pops the values above the last mark."""
        return self.taken(len(self.stack) - self.marks.pop())

    def extend(self, values: list) -> None:
        self.stack[-1].extend(values)

    def put(self, pairs: list) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int):
                raise ValueError(f"a key of its pickle is {type(key).__name__}, not text.")
            self.stack[-1][key] = value

    def keep(self, index: int) -> None:
        self.memo[index] = self.stack[-1]


def _tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *_) -> Tensor:
    """The tensor. Raises ValueError if it reaches past the end of its storage."""
    bad = any(type(n) is not int or n < 0 for n in (offset, *shape, *strides))
    if bad or len(shape) != len(strides):
        raise ValueError(f"a tensor has offset {offset!r}, shape {shape!r}, strides {strides!r}.")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if math.prod(shape) > storage.size or (0 not in shape and last >= storage.size):
        raise ValueError(
            f"a tensor {list(shape)} does not fit data/{storage.key}, of {storage.size} numbers."
        )
    return Tensor(storage, offset, shape, strides)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda: {},
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
}
_PUSHED = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_MADE = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_MADE |= {"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False}
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, version: None,
    "STOP": lambda m, _: None,
    "GLOBAL": _Machine.name,
    "REDUCE": _Machine.call,
    "BINPERSID": _Machine.storage,
    "BUILD": lambda m, _: m.taken(1),  # the attributes of an OrderedDict: versions of modules
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.marked())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.taken(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.taken(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.taken(3))),
    "APPEND": lambda m, _: m.extend(m.taken(1)),
    "APPENDS": lambda m, _: m.extend(m.marked()),
    "SETITEM": lambda m, _: m.put(m.taken(2)),
    "SETITEMS": lambda m, _: m.put(m.marked()),
    "BINPUT": _Machine.keep,
    "LONG_BINPUT": _Machine.keep,
    "BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.stack.append(m.memo[index]),
}
