"""Shared by the formats of other libraries: JSON and tensors of a folder, strictly checked."""

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from dictlearn import dictionaries, files
from dictlearn.interop import _layout
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Trained

FLOATS = {"F64", "F32", "F16", "BF16", "float64", "float32", "float16", "bfloat16"}
ARRAYS = (".npz", ".pt", ".pth", ".safetensors")
"""The suffixes of files that may hold a dictionary."""
_LEAST = 1e-37
MOST_TIMES = 20
"""The largest ratio of an unpacked array to its archive; numbers hardly compress."""
MOST_JSON = 1 << 22
"""The largest size of a config, in bytes."""


def has(folder: Path, *names: str) -> bool:
    return folder.is_dir() and all((folder / name).is_file() for name in names)


def inside(folder: Path, name: str) -> Path:
    """A file of the folder. Raises ValueError for a link out of the folder, except to the blobs of a snapshot
    from the hub."""
    path, own = folder / name, folder.resolve()
    blobs = [parent.parent / "blobs" for parent in own.parents if parent.name == "snapshots"][:1]
    if not any(path.resolve().is_relative_to(home) for home in (own, *blobs)):
        raise ValueError(f"{name} leads out of its folder, to {path.resolve()}.")
    if not path.is_file():
        raise ValueError(f"{name} is missing.")
    return path


def config(folder: Path, name: str) -> dict[str, Any]:
    """The object in a JSON file of the folder."""
    path = inside(folder, name)
    if (size := path.stat().st_size) > MOST_JSON:
        raise ValueError(f"{name} has {size} bytes, and a config has at most {MOST_JSON}.")
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name} holds {type(found).__name__}, not an object.")
    return found


def integer(told: Mapping[str, Any], key: str, least: int = 1) -> int:
    """An integer of a config. Raises ValueError for any other value, or one below `least`."""
    value = told.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{key}={value!r} must be a whole number of at least {least}.")
    return value


def part(told: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object in a config."""
    value = told.get(key)
    if not isinstance(value, dict):
        raise ValueError(f"{key}={value!r} must be an object.")
    return value


def one_of(told: Mapping[str, Any], key: str, known: Any, default: Any = None) -> Any:
    """A value of a config that must be one of `known`."""
    value = told.get(key, default)
    if not any(value == each and type(value) is type(each) for each in known):
        raise ValueError(
            f"{key}={value!r} is not read; it must be one of {', '.join(map(repr, known))}."
        )
    return value


def tensors(
    folder: Path, name: str, wanted: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """The `arrays` of a file in the folder."""
    return arrays(inside(folder, name), wanted)


def arrays(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file or a NumPy archive, in float32. Shapes are compared before anything is
    read.

    Raises ValueError for an array that is missing, not wanted, of another shape, not a float, or not finite."""
    check(_headers(path), wanted, path.name)
    return finite(_read(path, wanted), path.name)


def check(there: Mapping[str, tuple], wanted: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Raises ValueError for an array, by (shape, type), that is missing, not wanted, of another shape, or of
    whole numbers."""
    if missing := sorted(wanted.keys() - there):
        raise ValueError(f"{name} lacks {', '.join(missing)}; it holds {', '.join(sorted(there))}.")
    if more := sorted(there.keys() - wanted.keys()):
        raise ValueError(f"{name} holds {', '.join(more)} too, which would be lost.")
    for key, shape in wanted.items():
        if there[key][0] != shape or there[key][1] not in FLOATS:
            told = f"{there[key][1]}{list(there[key][0])}"
            raise ValueError(f"{key} of {name} is {told}, not floats {list(shape)}.")


def finite(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays. Raises ValueError for numbers that are not finite."""
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{key} of {name} has numbers that are not finite.")
    return arrays


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file or a NumPy archive, by name. Raises ValueError for any other file."""
    return {key: shape for key, (shape, _) in _headers(path).items()}


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """(shape, dtype) of each array by name, without reading the arrays."""
    try:
        if zipfile.is_zipfile(path):
            return {key: (shape, str(kind)) for key, (shape, kind) in npz_headers(path).items()}
        with safe_open(path, "np") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            return {k: (tuple(one.get_shape()), one.get_dtype()) for k, one in slices.items()}
    except files.DAMAGE as error:
        raise ValueError(f"{path.name} is neither safetensors nor npz: {error}") from error


def _read(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    whole = lambda array: np.asarray(array).astype(np.float32)
    try:
        if zipfile.is_zipfile(path):
            with np.load(path, allow_pickle=False) as archive:
                return {name: whole(archive[name]) for name in names}
        with safe_open(path, "np") as file:
            return {name: whole(file.get_tensor(name)) for name in names}
    except files.DAMAGE as error:
        raise ValueError(f"{path.name} is damaged: {error}") from error


def npz_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """(shape, dtype) of each array of a NumPy archive by name, without reading the arrays.

    Raises ValueError for an entry that the file is too small for."""
    found, size = {}, path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for each in archive.infolist():
            name = each.filename
            if each.header_offset + each.compress_size > size or each.file_size > MOST_TIMES * size:
                raise ValueError(f"its entry {name!r} has {each.file_size} bytes, the file {size}.")
            with archive.open(name) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0
                read = read if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            found[name.removesuffix(".npy")] = shape, dtype
    return found


def unit_atoms(leaves: dict[str, np.ndarray]) -> None:
    """Moves the norms of the atoms to the encoder, which is the same function with other codes."""
    norm_F = np.linalg.norm(leaves["params/W_dec_FD"].astype(np.float64), axis=1)
    if not (norm_F > 0).all():
        raise ValueError("its codes are divided by the norms of the atoms, and some are 0.")
    for leaf, factor in (
        ("params/W_enc_FD", norm_F[:, None]),
        ("params/b_enc_F", norm_F),
        ("params/W_dec_FD", 1 / norm_F[:, None]),
    ):
        leaves[leaf] = (leaves[leaf] * factor).astype(np.float32)


def log_threshold(threshold_F: np.ndarray) -> np.ndarray:
    """JumpReLU's parameter. A threshold that is not positive becomes one below every positive number."""
    return np.log(np.maximum(threshold_F.astype(np.float64), _LEAST)).astype(np.float32)


def leaves(trained: Trained) -> dict[str, Any]:
    """The leaves of a dictionary by their paths."""
    return _layout.flat(trained.variables)


def thresholds(trained: Trained) -> np.ndarray | None:
    """The threshold of every latent; None for a dictionary that has none."""
    found = trained.module.apply(trained.variables, method="threshold")
    if found is None:
        return None
    return np.broadcast_to(np.asarray(found, np.float32), trained.module.n_latents).copy()


def check_plain(made: Mapping[str, Any], library: str) -> None:
    """Raises ValueError for a TopK with an option that other libraries lack; `made` describes it."""
    if made.get("norm_weighted") or made.get("anneal_steps"):
        raise ValueError(
            f"{library} has no norm_weighted and no anneal_steps, which {made['name']} has."
        )


def check_raw(trained: Trained) -> None:
    """Raises ValueError for a dictionary that does not read raw activations."""
    if trained.norm != Norm():
        name = dictionaries.describe(trained.module)["name"]
        raise ValueError(
            f"{name} under {trained.norm.kind}: fold the normalisation first (folded())."
        )


def write(
    folder: Path, weights: str, arrays: Mapping[str, Any], config: str, told: Mapping[str, Any]
) -> None:
    """Writes the folder: the arrays in float32, and the config."""
    folder.mkdir()
    whole = {key: np.array(array, np.float32, order="C") for key, array in arrays.items()}
    files.save_tensors(whole, folder / weights)
    write_config(folder / config, told)


def write_config(path: Path, told: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(told, indent=2) + "\n", "utf-8")
