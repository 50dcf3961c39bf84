"""Weights: parameters read from a file, tensor by tensor, and only the slices that are needed.

Source: the safetensors format, and Hugging Face's `model.safetensors.index.json` for shards.
"""

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from safetensors import SafetensorError, safe_open

from dictlearn import sharding
from dictlearn.lm.leftover import tell
from dictlearn.lm.names import Source
from dictlearn.lm.spec import Shaped, build, shape_of

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
_KINDS = ("F64", "F32", "F16", "BF16")
_ROWS = 4096
_ENDINGS = (".safetensors", INDEX)


@runtime_checkable
class Tensors(Protocol):
    """The tensors of one file or of several."""

    def names(self) -> Collection[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str, where: Sequence[np.ndarray]) -> np.ndarray:
        """The values at the given positions of every axis, in a dtype of the file's choosing."""
        ...


def runs(at: np.ndarray) -> list[slice]:
    """Splits positions into slices of consecutive positions, in order."""
    pieces = np.split(at, np.flatnonzero(np.diff(at) != 1) + 1)
    return [slice(int(piece[0]), int(piece[-1]) + 1) for piece in pieces]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
        raise ValueError(f"{twice!r} occurs twice; remove one.")
    return values


def _check_header(path: Path) -> None:
    """Refuses a safetensors file with two tensors of one name, of which the library would read only one."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    try:
        json.loads(header, object_pairs_hook=_once)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises ValueError, naming the file, for any other content."""
    try:
        values = json.loads(path.read_text("utf-8"), object_pairs_hook=_once)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path.parent} holds no {path.name}.") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON.") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a JSON {type(values).__name__}, not an object.")
    return values


class Safetensors:
    """The tensors of a folder's `model.safetensors`, or of the shards that its index names.

    `main` is the file or the index. A warning names files of tensors in the folder that are not read.

    Args:
        folder: the folder.

    Raises:
        ValueError: for an index that names files outside the folder or does not match the tensors of its
            shards, for a file that is not safetensors, and for an adapter, which would change the model.
        FileNotFoundError: if neither the file nor the index exists.
    """

    def __init__(self, folder: Path):
        self.folder, self.open = folder, {}
        if (folder / ADAPTER).is_file():
            raise ValueError(
                f"{folder} holds {ADAPTER}: an adapter is merged into its model before it is read"
                " (merge_and_unload of peft), or kept in another folder."
            )
        self.main = WEIGHTS if (folder / WEIGHTS).is_file() else INDEX
        if self.main == WEIGHTS:
            self.files: dict[str, str] = dict.fromkeys(self._handle(WEIGHTS).keys(), WEIGHTS)
            self._tell_others()
            return
        if not (folder / INDEX).is_file():
            raise FileNotFoundError(
                f"{folder} holds neither {WEIGHTS} nor {INDEX}; other formats are not read:"
                " convert them with save_pretrained(..., safe_serialization=True)."
            )
        listed = read_json(folder / INDEX).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            raise ValueError(f"{folder / INDEX}: no weight_map.")
        for name, file in listed.items():
            plain = isinstance(file, str) and Path(file).name == file and file not in ("", "..")
            if not plain or "\\" in file:
                raise ValueError(
                    f"{folder / INDEX}: {name} lies in {file!r}, which is not a plain file name."
                )
        self.files = listed
        for file in sorted(set(listed.values())):
            self._check_listed(file)
        self._tell_others()

    def _check_listed(self, file: str) -> None:
        """Refuses a shard with a tensor that the index does not name, or has in another shard."""
        for name in self._handle(file).keys():  # noqa: SIM118
            if (where := self.files.get(name)) != file:
                has = f"has it in {where}" if where else "does not name it"
                raise ValueError(
                    f"{self.folder / file}: holds {name}, and {INDEX} {has}; write the folder again with"
                    " save_pretrained."
                )

    def _tell_others(self) -> None:
        used = {self.main, *self.files.values()}
        found = [one.name for one in self.folder.iterdir() if one.name.endswith(_ENDINGS)]
        tell(str(self.folder), sorted(set(found) - used), "files")

    def _handle(self, file: str) -> Any:
        if file not in self.open:
            try:
                self.open[file] = safe_open(self.folder / file, framework="numpy")
                _check_header(self.folder / file)
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{self.folder / file}: {error}.") from error
        return self.open[file]

    def _slice(self, name: str) -> Any:
        try:
            found = self._handle(self.files[name]).get_slice(name)
        except SafetensorError as error:
            raise ValueError(f"{self.folder / self.files[name]}: {error}.") from error
        if (kind := found.get_dtype()) not in _KINDS:
            raise ValueError(
                f"{self.folder / self.files[name]}: tensor {name} is {kind}; known: {', '.join(_KINDS)}."
                " Quantised weights are not read: dequantise the model and save it again."
            )
        return found

    def names(self) -> Collection[str]:
        return self.files.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._slice(name).get_shape())

    def read(self, name: str, where: Sequence[np.ndarray]) -> np.ndarray:
        tensor = self._slice(name)
        if len(where) == 1:
            return np.concatenate([tensor[run] for run in runs(where[0])])
        rows, columns = (runs(at) for at in where)
        parts = [np.concatenate([tensor[row, one] for one in columns], axis=1) for row in rows]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _reader(
    spec: Shaped, leaf: str, source: Source, tensors: Tensors, dtype: Any
) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """A function from slices of a leaf to its values. Checks that the tensor exists and has the right shape."""
    if source.name not in tensors.names():
        raise ValueError(f"The tensors lack {source.name!r}.")
    shape = shape_of(spec, leaf)
    stored = (*shape[:-1], source.n_last or shape[-1])
    stored = stored[::-1] if source.flip else stored
    stored = (source.first_of, *stored) if source.first_of else stored
    if (found := tensors.shape(source.name)) != stored:
        raise ValueError(f"Tensor {source.name!r} is {found}; the spec says {stored}.")

    def read(index: tuple[slice, ...]) -> np.ndarray:
        where = [np.arange(size)[one] for size, one in zip(shape, index, strict=True)]
        if source.pick is not None:
            where[-1] = source.pick(where[-1])
        where = [np.arange(1), *where] if source.first_of else where
        values = tensors.read(source.name, where[::-1] if source.flip else where)
        values = values[0] if source.first_of else values
        values = values.T if source.flip else values
        values = values if source.plus == 0 else values.astype(np.float32) + source.plus
        return np.ascontiguousarray(values.astype(dtype, copy=False))

    return read


def check_tied(tensors: Tensors, embed: str, heads: Sequence[str]) -> None:
    """Raises ValueError for an unembedding that differs from the embedding, where the config ties them."""
    for head in heads:
        if not _same(tensors, embed, head):
            raise ValueError(
                f"The tensors hold the unembedding {head}, which differs from {embed}, and config.json ties the"
                " two: set tie_word_embeddings to false to use it, or remove it from the file."
            )


def _same(tensors: Tensors, one: str, other: str) -> bool:
    """Whether two matrices are equal, compared in blocks of rows."""
    if (shape := tensors.shape(one)) != tensors.shape(other):
        return False
    blocks = np.split(np.arange(shape[0]), range(_ROWS, shape[0], _ROWS))
    read = lambda name, rows: tensors.read(name, (rows, np.arange(shape[1])))
    return all(np.array_equal(read(one, rows), read(other, rows)) for rows in blocks)


def dtype_of(leaf: str, dtype: Any) -> Any:
    """The dtype of a parameter: float32 for norms, else the given one."""
    return np.float32 if "norm" in leaf else dtype


def load_params(
    spec: Shaped,
    source: Callable[[str], Source],
    tensors: Tensors,
    dtype: Any,
    mesh: Mesh | None,
    unused: Callable[[str], bool],
) -> dict[str, Any]:
    """Loads the parameters of a model, one tensor at a time; norms are float32.

    Args:
        spec: the hyperparameters.
        source: where each leaf is in the file.
        tensors: the tensors of the file.
        dtype: the dtype of the parameters.
        mesh: places the parameters by the letters of their names, and each process reads only the slices of
            its own devices, each once; None for one device.
        unused: whether a tensor, by its name, may be left out.

    Returns:
        Nested dicts of parameters.

    Raises:
        ValueError: for a missing tensor, a tensor of a wrong shape, and a tensor that the forward pass would
            not use, unless `unused` allows it: without its bias or its rope table, a model has wrong logits.
    """
    used = set()

    def struct(leaf: str, layer: int | None) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape_of(spec, leaf), dtype_of(leaf, dtype))

    placed = None if mesh is None else sharding.shardings(build(spec, struct), mesh)

    def leaf(name: str, layer: int | None) -> jax.Array:
        where = source(name)
        where = where._replace(name=where.name.format(layer))
        used.add(where.name)
        read = _reader(spec, name, where, tensors, dtype_of(name, dtype))
        shape = shape_of(spec, name)
        if placed is None:
            return jnp.asarray(read((slice(None),) * len(shape)))
        seen: dict[str, np.ndarray] = {}

        def part(index: Any) -> np.ndarray:
            if (key := str(index)) not in seen:
                seen[key] = read(index)
            return seen[key]

        tree = placed if layer is None else placed[f"block_{layer}"]
        return jax.make_array_from_callback(shape, tree[name], part)

    params = build(spec, leaf)
    if left := sorted(name for name in set(tensors.names()) - used if not unused(name)):
        raise ValueError(f"Tensors that the model does not use: {', '.join(left[:5])}.")
    return params
