"""circuit-tracer's cross-layer transcoders: a folder of `W_enc_0.safetensors`, `W_dec_0.safetensors`, ...

    f^l = activation(x^l W_enc_l^T + b_enc_l)      y^l = sum_{m <= l} f^m W_dec_m[:, l - m] + b_dec_l

W_enc_l is [F, D], W_dec_l [F, L - l, D], with a slot for each layer from l on; F counts the latents of one
layer. With `threshold_l` it is a JumpReLU, without it a ReLU. An optional `config.yaml` names the hooks. Latent
j of layer l is latent j L + l of ours. Everything that the library has no key for is kept as `note` in the
metadata.
"""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from dictlearn import dictionaries, files
from dictlearn.dictionaries.clt import CLT
from dictlearn.interop import _circuit, _foreign, _note
from dictlearn.runs.trained import Trained

SUFFIX = ""
MOST_LAYERS = 512
LEAVES = {
    "params/W_enc_FD",
    "params/b_enc_F",
    "params/b_dec_D",
    _note.THRESHOLD,
    *_note.RUNNING,
}
LEAVES |= {f"params/W_dec_{layer}_FD" for layer in range(MOST_LAYERS)}


def recognises(path: Path) -> bool:
    """Whether a path is a folder with the files of layer 0.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    return _foreign.has(path, "W_enc_0.safetensors", "W_dec_0.safetensors")


def load(path: Path) -> Trained:
    """Loads the dictionary in the folder.

    Args:
        path: the folder.

    Returns:
        A Trained.

    Raises:
        ValueError: for arrays that do not fit each other, naming them.
    """
    decoder = _foreign.shapes(_foreign.inside(path, "W_dec_0.safetensors")).get("W_dec_0", ())
    if len(decoder) != 3 or decoder[1] > MOST_LAYERS:
        raise ValueError(
            f"W_dec_0 of W_dec_0.safetensors is {list(decoder)}; it must have three axes, and at most "
            f"{MOST_LAYERS} layers."
        )
    each, n, d_in = decoder
    jumps = "threshold_0" in _foreign.shapes(_foreign.inside(path, "W_enc_0.safetensors"))
    layers = [_layer(path, layer, n, each, d_in, jumps) for layer in range(n)]
    woven = lambda key: np.stack([one[key] for one in layers], axis=1)
    leaves = {
        "params/W_enc_FD": woven("W_enc").reshape(-1, d_in),
        "params/b_enc_F": woven("b_enc").reshape(-1),
        "params/b_dec_D": np.concatenate([one["b_dec"] for one in layers]),
    }
    for layer, one in enumerate(layers):
        leaves[f"params/W_dec_{layer}_FD"] = one["W_dec"].reshape(each, -1)
    if jumps:
        leaves[_note.THRESHOLD] = _foreign.log_threshold(woven("threshold").reshape(-1))
    sizes = {"d_in": n * d_in, "d_out": n * d_in, "n_latents": n * each, "sources": n}
    kind = "jumprelu" if jumps else "relu"
    module = dictionaries.make("clt", activation=kind, sparsity=0.0, **sizes)
    note = _note.note_of(path / "W_enc_0.safetensors")
    known = {} if note else {"name": path.name, "sites": _circuit.sites(path, range(n))}
    return _note.noted(note, module, leaves, **known)


def _layer(path: Path, layer: int, n: int, each: int, d_in: int, jumps: bool) -> dict[str, Any]:
    """The arrays of a layer, by their names without the layer's number."""
    sizes = {"W_enc": (each, d_in), "b_enc": (each,), "b_dec": (d_in,)}
    sizes |= {"threshold": (each,)} if jumps else {}
    wanted = {f"{key}_{layer}": shape for key, shape in sizes.items()}
    found = _foreign.tensors(path, f"W_enc_{layer}.safetensors", wanted)
    decoder = {f"W_dec_{layer}": (each, n - layer, d_in)}
    found |= _foreign.tensors(path, f"W_dec_{layer}.safetensors", decoder)
    return {key.rpartition("_")[0]: array for key, array in found.items()}


def save(trained: Trained, path: Path) -> None:
    """Writes a folder.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that circuit-tracer does not compute.
    """
    made = dictionaries.describe(trained.module)
    _circuit.check(trained, made, ("clt",), made["d_in"])
    leaves = {k: np.array(leaf, np.float32) for k, leaf in _foreign.leaves(trained).items()}
    n, width = cast(CLT, trained.module).sources, made["d_in"] // made["sources"]
    threshold_F = _foreign.thresholds(trained)
    woven = {"W_enc": leaves["params/W_enc_FD"], "b_enc": leaves["params/b_enc_F"]}
    if threshold_F is not None:
        woven["threshold"] = threshold_F
    note = {_note.METADATA: json.dumps(_note.note(trained))}
    path.mkdir()
    for layer in range(n):
        arrays = {f"{key}_{layer}": array[layer::n].copy() for key, array in woven.items()}
        arrays[f"b_dec_{layer}"] = leaves["params/b_dec_D"].reshape(n, -1)[layer].copy()
        files.save_tensors(arrays, path / f"W_enc_{layer}.safetensors", None if layer else note)
        decoder = leaves[f"params/W_dec_{layer}_FD"].reshape(-1, n - layer, width)
        files.save_tensors({f"W_dec_{layer}": decoder}, path / f"W_dec_{layer}.safetensors")
    if len(trained.sites) == 1:
        _circuit.write(path, trained.sites[0], "cross_layer_transcoder")
