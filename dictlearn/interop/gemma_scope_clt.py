"""Gemma Scope 2's cross-layer transcoders: a folder of `params_layer_0.safetensors`, ...

    f^l = z [z > threshold]   z = x^l w_enc + b_enc   y^l = sum_{m <= l} f^m w_dec_m[:, l] + b_dec_l (+ x^l A_l)

The arrays of a layer are w_enc [D, F], w_dec [F, L, D], of which the targets from the layer on are used (as
circuit-tracer does), b_enc, threshold [F], b_dec [D] and, where there is a skip, A, affine_skip_connection
[D, D]. The layers may also be `layer_0_.../params.safetensors`, ..., with an optional `config.json` in each
folder that has its hooks.

A skip of ours is one matrix from the inputs of all layers to all targets; here it has blocks on its diagonal
alone, and one with other entries is not written. It is at most `MOST_WIDTH` squared. Everything that the
library has no key for is kept as `note` in the metadata of layer 0.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dictlearn import dictionaries, files
from dictlearn.interop import _circuit, _clt, _foreign, _note
from dictlearn.runs.trained import Site, Trained

SUFFIX = ""
LEAVES = {*_clt.LEAVES, _clt.SKIP}
MOST_WIDTH = 1 << 15
"""The most columns of the inputs of all layers together, where there is a skip: 4 GiB."""
_SKIP = "affine_skip_connection"
_LAYER = re.compile(
    r"params_layer_(\d{1,4})\.safetensors|layer_(\d{1,4})(_[^/]*)?/params\.safetensors"
)


def recognises(path: Path) -> bool:
    """Whether a path is a folder with a layer 0 whose decoder has three axes.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    try:
        first = _files(path).get(0, [])
        shapes = [_foreign.shapes(path / name).get("w_dec", ()) for name in first]
    except ValueError:
        return False
    return any(len(shape) == 3 for shape in shapes)


def _check(layers: Iterable[int], sizes: Sequence[int], skip: bool) -> None:
    """Raises ValueError for layers that are not all of w_dec's, and a skip that is too wide."""
    if sizes[1] > _clt.MOST_LAYERS or sorted(layers) != list(range(sizes[1])):
        raise ValueError(f"w_dec is {list(sizes)}, and there are the layers {sorted(layers)}.")
    if skip and sizes[1] * sizes[2] > MOST_WIDTH:
        raise ValueError(
            f"{_SKIP} of {sizes[1]} layers of {sizes[2]} columns is a matrix of {sizes[1] * sizes[2]} squared "
            f"here, and at most {MOST_WIDTH} squared is read; take the files without `_affine`."
        )


def load(path: Path) -> Trained:
    """Loads the dictionary in the folder.

    Args:
        path: the folder.

    Returns:
        A Trained.

    Raises:
        ValueError: for a layer that is missing or there twice, and for arrays that do not fit each other.
    """
    found = _files(path)
    if twice := [names for names in found.values() if len(names) > 1]:
        raise ValueError(f"it holds {' and '.join(twice[0])}; give each a folder of its own.")
    of = {layer: names[0] for layer, names in found.items()}
    there = _foreign.shapes(_foreign.inside(path, of[0]))
    sizes = there["w_dec"]
    _check(of, sizes, _SKIP in there)
    layers = [_layer(path, of[layer], layer, sizes, _SKIP in there) for layer in range(sizes[1])]
    module, leaves = _clt.joined(layers)
    note = _note.note_of(path / of[0])
    names = [of[layer] for layer in sorted(of)]
    known = {} if note else {"name": path.name, "sites": _sites(path, names)}
    return _note.noted(note, module, leaves, **known)


def save(trained: Trained, path: Path) -> None:
    """Writes a folder.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that is not a cross-layer transcoder of JumpReLU.
    """
    made = dictionaries.describe(trained.module)
    _circuit.check(trained, made, ("clt",), made["d_in"])
    layers = _clt.parted(trained)
    if "threshold" not in layers[0]:
        raise ValueError(f"Gemma Scope has JumpReLU alone, not {made['name']} of another kind.")
    note = {_note.METADATA: json.dumps(_note.note(trained))}
    path.mkdir()
    for layer, one in enumerate(layers):
        before = np.zeros_like(one["W_dec"], shape=(len(one["b_enc"]), layer, len(one["b_dec"])))
        arrays = {key: one[key] for key in ("b_enc", "b_dec", "threshold")}
        arrays["w_enc"] = np.ascontiguousarray(one["W_enc"].T)
        arrays["w_dec"] = np.concatenate([before, one["W_dec"]], axis=1)
        if "W_skip" in one:
            arrays[_SKIP] = np.ascontiguousarray(one["W_skip"].T)
        name = f"params_layer_{layer}.safetensors"
        files.save_tensors(arrays, path / name, None if layer else note)


def _files(path: Path) -> dict[int, list[str]]:
    """The files of each layer."""
    found: dict[int, list[str]] = {}
    names = {each.name for each in path.iterdir()} if path.is_dir() else set()
    nested = {f"{name}/params.safetensors" for name in names}
    for name in sorted(names | nested):
        if (layer := _LAYER.fullmatch(name)) and (path / name).is_file():
            found.setdefault(int(layer[1] or layer[2]), []).append(name)
    return found


def _layer(
    path: Path, name: str, layer: int, sizes: tuple[int, ...], skips: bool
) -> dict[str, np.ndarray]:
    """The arrays of a layer, by their names in `_clt.joined`."""
    each, n, width = sizes
    wanted = {"w_enc": (width, each), "w_dec": (each, n, width), "b_enc": (each,)}
    wanted |= {"threshold": (each,), "b_dec": (width,)}
    wanted |= {_SKIP: (width, width)} if skips else {}
    found = _foreign.tensors(path, name, wanted)
    found["W_enc"] = np.ascontiguousarray(found.pop("w_enc").T)
    found["W_dec"] = np.ascontiguousarray(found.pop("w_dec")[:, layer:])
    if skips:
        found["W_skip"] = found.pop(_SKIP).T
    return found


def _sites(path: Path, names: list[str]) -> tuple[Site, ...]:
    """The hooks of all layers, where every config states them."""
    configs = [str(Path(name).with_name("config.json")) for name in names]
    if len({*configs}) < len(configs) or not all((path / one).is_file() for one in configs):
        return ()
    told = [_foreign.config(path, one) for one in configs]
    side = lambda key: tuple(hook for one in told if isinstance(hook := one.get(key), str))
    read, written = side("hf_hook_point_in"), side("hf_hook_point_out")
    if not len(read) == len(written) == len(names):
        return ()
    return (Site({"name": told[0].get("model_name")}, read, written, {}),)
