"""circuit-tracer's cross-layer transcoders: a folder of `W_enc_0.safetensors`, `W_dec_0.safetensors`, ...

    f^l = activation(x^l W_enc_l^T + b_enc_l)      y^l = sum_{m <= l} f^m W_dec_m[:, l - m] + b_dec_l

W_enc_l is [F, D], W_dec_l [F, L - l, D], with a slot for each layer from l on; F counts the latents of one
layer. With `threshold_l` it is a JumpReLU, without it a ReLU. An optional `config.yaml` names the hooks. Latent
j of layer l is latent j L + l of ours. Everything that the library has no key for is kept as `note` in the
metadata.
"""

import json
from pathlib import Path
from typing import Any

from dictlearn import dictionaries, files
from dictlearn.interop import _circuit, _clt, _foreign, _note
from dictlearn.runs.trained import Trained

SUFFIX = ""
LEAVES = _clt.LEAVES


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
    if len(decoder) != 3 or decoder[1] > _clt.MOST_LAYERS:
        raise ValueError(
            f"W_dec_0 of W_dec_0.safetensors is {list(decoder)}; it must have three axes, and at most "
            f"{_clt.MOST_LAYERS} layers."
        )
    each, n, d_in = decoder
    jumps = "threshold_0" in _foreign.shapes(_foreign.inside(path, "W_enc_0.safetensors"))
    module, leaves = _clt.joined([_layer(path, layer, n, each, d_in, jumps) for layer in range(n)])
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
    note = {_note.METADATA: json.dumps(_note.note(trained))}
    path.mkdir()
    for layer, one in enumerate(_clt.parted(trained)):
        decoder = {f"W_dec_{layer}": one.pop("W_dec")}
        arrays = {f"{key}_{layer}": array for key, array in one.items()}
        files.save_tensors(arrays, path / f"W_enc_{layer}.safetensors", None if layer else note)
        files.save_tensors(decoder, path / f"W_dec_{layer}.safetensors")
    if len(trained.sites) == 1:
        _circuit.write(path, trained.sites[0], "cross_layer_transcoder")
