"""Gemma Scope 2's cross-layer transcoders: a folder with `layer_0_.../params.safetensors`, ...

    f^l = z [z > threshold]   z = x^l w_enc + b_enc      y^l = sum_{m <= l} f^m w_dec_m[:, l] + b_dec_l

The arrays of a layer are w_enc [D, F], w_dec [F, L, D], of which the targets from the layer on are used, b_enc,
threshold [F] and b_dec [D]. An optional `config.json` in each folder has the hooks. An affine skip is refused.
Everything that the library has no key for is kept as `note` in the metadata of layer 0.
"""

import json
import re
from pathlib import Path

import numpy as np

from dictlearn import dictionaries, files
from dictlearn.interop import _circuit, _clt, _foreign, _note
from dictlearn.runs.trained import Site, Trained

SUFFIX = ""
WEIGHTS = "params.safetensors"
LEAVES = _clt.LEAVES


def recognises(path: Path) -> bool:
    """Whether a path is a folder with a layer 0 whose decoder has three axes.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    try:
        first = _folders(path).get(0, [])
        shapes = [_foreign.shapes(path / name / WEIGHTS).get("w_dec", ()) for name in first]
    except ValueError:
        return False
    return any(len(shape) == 3 for shape in shapes)


def load(path: Path) -> Trained:
    """Loads the dictionary in the folder.

    Args:
        path: the folder.

    Returns:
        A Trained.

    Raises:
        ValueError: for a layer that is missing or there twice, and for arrays that do not fit each other.
    """
    folders = _folders(path)
    if twice := [names for names in folders.values() if len(names) > 1]:
        raise ValueError(f"it holds {' and '.join(twice[0])}; give each a folder of its own.")
    of = {layer: names[0] for layer, names in folders.items()}
    sizes = _foreign.shapes(_foreign.inside(path, f"{of[0]}/{WEIGHTS}"))["w_dec"]
    if sizes[1] > _clt.MOST_LAYERS or sorted(of) != list(range(sizes[1])):
        raise ValueError(f"w_dec is {list(sizes)}, and there are the layers {sorted(of)}.")
    layers = [_layer(path, of[layer], layer, sizes) for layer in range(sizes[1])]
    module, leaves = _clt.joined(layers)
    note = _note.note_of(path / of[0] / WEIGHTS)
    known = (
        {}
        if note
        else {"name": path.name, "sites": _sites(path, [of[layer] for layer in sorted(of)])}
    )
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
        (path / f"layer_{layer}").mkdir()
        files.save_tensors(arrays, path / f"layer_{layer}" / WEIGHTS, None if layer else note)


def _folders(path: Path) -> dict[int, list[str]]:
    """The folders of each layer."""
    found: dict[int, list[str]] = {}
    for one in sorted(path.iterdir()) if path.is_dir() else ():
        layer = re.fullmatch(r"layer_(\d{1,4})(_.*)?", one.name)
        if layer and (one / WEIGHTS).is_file():
            found.setdefault(int(layer[1]), []).append(one.name)
    return found


def _layer(path: Path, name: str, layer: int, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The arrays of a layer, by their names in `_clt.joined`."""
    each, n, width = sizes
    wanted = {"w_enc": (width, each), "w_dec": (each, n, width), "b_enc": (each,)}
    wanted |= {"threshold": (each,), "b_dec": (width,)}
    found = _foreign.tensors(path, f"{name}/{WEIGHTS}", wanted)
    found["W_enc"] = np.ascontiguousarray(found.pop("w_enc").T)
    found["W_dec"] = np.ascontiguousarray(found.pop("w_dec")[:, layer:])
    return found


def _sites(path: Path, names: list[str]) -> tuple[Site, ...]:
    """The hooks of all layers, where every config states them."""
    if not all((path / name / "config.json").is_file() for name in names):
        return ()
    told = [_foreign.config(path, f"{name}/config.json") for name in names]
    side = lambda key: tuple(hook for one in told if isinstance(hook := one.get(key), str))
    read, written = side("hf_hook_point_in"), side("hf_hook_point_out")
    if not len(read) == len(written) == len(names):
        return ()
    return (Site({"name": told[0].get("model_name")}, read, written, {}),)
