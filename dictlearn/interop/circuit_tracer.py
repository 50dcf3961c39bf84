"""circuit-tracer's transcoders of one layer: the files `layer_0.safetensors`, ... of a transcoder set.

    f = activation(x W_enc^T + b_enc)      y = f W_dec + b_dec (+ x W_skip^T)

W_enc and W_dec are [F, D]. With `activation_function.threshold` it is a JumpReLU, without it a ReLU. An
optional `config.yaml` in the same folder names the hooks. TopK is not written, because circuit-tracer reads the
files of a set as ReLU; BatchTopK is written as a JumpReLU with its threshold. Everything that the library has
no key for is kept as `note` in the metadata. Several are written as a set, by the layers of their sites, with a
`config.yaml`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import dictionaries, files
from dictlearn.interop import _circuit, _foreign, _note
from dictlearn.runs.trained import Trained

SUFFIX = ".safetensors"
_LEAVES = {
    "W_enc": "params/W_enc_FD",
    "b_enc": "params/b_enc_F",
    "W_dec": "params/W_dec_FD",
    "b_dec": "params/b_dec_D",
    "W_skip": "params/W_skip_DD",
}
_THRESHOLD = "activation_function.threshold"
LEAVES = {*_LEAVES.values(), *_note.RUNNING, _note.THRESHOLD}


def recognises(path: Path) -> bool:
    """Whether a path is a file with these arrays, where W_enc is not a transpose of W_dec.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    if path.suffix != SUFFIX or not path.is_file():
        return False
    try:
        there = _foreign.shapes(path)
        alike = there.get("W_enc", ()) == there.get("W_dec", None)
        return alike and there.keys() >= _LEAVES.keys() - {"W_skip"} and not _note.ours(path)
    except ValueError:
        return False


def load(path: Path) -> Trained:
    """Loads the dictionary in the file.

    Args:
        path: the file.

    Returns:
        A Trained.

    Raises:
        ValueError: for arrays that do not fit each other, naming them.
    """
    arrays = _read(path)
    n_latents, d_in = arrays["W_enc"].shape
    leaves = {leaf: arrays[key] for key, leaf in _LEAVES.items() if key in arrays}
    if _THRESHOLD in arrays:
        leaves[_note.THRESHOLD] = _foreign.log_threshold(arrays[_THRESHOLD])
    fields: dict[str, Any] = {"d_out": d_in, "skip": "W_skip" in arrays, "sparsity": 0.0}
    name = "jumprelu" if _THRESHOLD in arrays else "relu"
    module = dictionaries.make(name, d_in=d_in, n_latents=n_latents, **fields)
    layer = re.fullmatch(r"layer_(\d+)", path.stem)
    note = _note.note_of(path)
    known: dict[str, Any] = {"name": path.stem}
    if layer and not note:
        known["sites"] = _circuit.sites(path.parent, [int(layer[1])])
    return _note.noted(note, module, leaves, **known)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, in float32."""
    there = _foreign.shapes(path)
    if len(there["W_enc"]) != 2:
        raise ValueError(f"W_enc is {list(there['W_enc'])}; it must have two axes.")
    n_latents, d_in = there["W_enc"]
    sizes = {"W_enc": (n_latents, d_in), "W_dec": (n_latents, d_in), "b_enc": (n_latents,)}
    sizes |= {"b_dec": (d_in,), "W_skip": (d_in, d_in), _THRESHOLD: (n_latents,)}
    optional = {"W_skip", _THRESHOLD} - there.keys()
    return _foreign.arrays(path, {k: shape for k, shape in sizes.items() if k not in optional})


def save(trained: Trained, path: Path) -> None:
    """Writes a file.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that circuit-tracer does not compute.
    """
    made = dictionaries.describe(trained.module)
    _circuit.check(trained, made, (*_circuit.KINDS, "matryoshka"), made["d_in"])
    leaves = _foreign.leaves(trained)
    arrays = {key: np.array(leaves[leaf], "f4") for key, leaf in _LEAVES.items() if leaf in leaves}
    threshold_F = _foreign.thresholds(trained)
    if threshold_F is not None:
        arrays[_THRESHOLD] = threshold_F
    files.save_tensors(arrays, path, {_note.METADATA: json.dumps(_note.note(trained))})


def save_all(dictionaries: Sequence[Trained], path: Path) -> None:
    """Writes a set.

    Args:
        dictionaries: one of each layer from 0 on, in any order.
        path: the folder, which exists.

    Raises:
        ValueError: for a dictionary that circuit-tracer does not compute, or whose site says no layer; for
            layers that are missing, twice, of another place or width.
    """
    whole, site = _circuit.ordered(dictionaries)
    for layer, trained in enumerate(whole):
        save(trained, path / f"layer_{layer}.safetensors")
    _circuit.write(path, site, "transcoder_set")
