"""Llama Scope's folders (OpenMOSS, 2024): `hyperparams.json` and `checkpoints/final.safetensors`.

    f = g((s x) W_enc^T + b_enc)      y = (f W_dec^T + b_dec) / s'      s = sqrt(D) / the mean norm of the data

encoder.weight is [F, D] and decoder.weight [D, F]. They are read as by their own loader. First s and s' are
folded into the weights. With `sparsity_include_decoder_norm` the atoms are then scaled to unit norm. Last,
`jump_relu_threshold`, one number, is compared. A TopK with such a threshold is a JumpReLU. With
`apply_decoder_bias_to_pre_encoder` the encoder reads x - b_dec. ReLU and TopK on raw activations are written;
everything that the format has no key for is kept under `dictlearn` in hyperparams.json.

Source: He et al. 2024 (arXiv:2410.20526), and the loader in the code that was released with it.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import dictionaries, files
from dictlearn.interop import _foreign, _hooks, _note
from dictlearn.runs.trained import Trained

SUFFIX = ""
CONFIG, ROOM, WEIGHTS = "hyperparams.json", "checkpoints", "final.safetensors"
_LEAVES = {
    "encoder.weight": "params/W_enc_FD",
    "encoder.bias": "params/b_enc_F",
    "decoder.weight": "params/W_dec_FD",
    "decoder.bias": "params/b_dec_D",
}
LEAVES = set(_LEAVES.values())
_KINDS = ("relu", "topk")
_STRUCTURES = {*_KINDS, "matryoshka"}


def recognises(path: Path) -> bool:
    """Whether a path is a folder with both files.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    return _foreign.has(path, CONFIG, f"{ROOM}/{WEIGHTS}")


def load(path: Path) -> Trained:
    """Loads the dictionary in the folder.

    Args:
        path: the folder.

    Returns:
        A Trained.

    Raises:
        ValueError: for a key or a tensor that is not read, naming it.
    """
    told = _foreign.config(path, CONFIG)
    kind = _foreign.one_of(told, "act_fn", (*_KINDS, "jumprelu"), "relu")
    _foreign.one_of(told, "use_glu_encoder", (False,), False)
    _foreign.one_of(told, "use_decoder_bias", (True,), True)
    d_in, n_latents = _foreign.integer(told, "d_model"), _foreign.integer(told, "d_sae")
    leaves = _read(path, told, d_in, n_latents)
    threshold = _number(told, "jump_relu_threshold", 0.0)
    if kind == "jumprelu" or (kind == "topk" and threshold > 0):
        kind = "jumprelu"
        leaves[_note.THRESHOLD] = _foreign.log_threshold(np.full(n_latents, threshold))
    fields = {"k": _foreign.integer(told, "top_k")} if kind == "topk" else {"sparsity": 0.0}
    module = dictionaries.make(kind, d_in=d_in, n_latents=n_latents, **fields, **_place(told, d_in))
    read = told.get("hook_point_in")
    sites = _hooks.sites(read, told.get("hook_point_out") or read)
    known = {"name": path.name, "sites": sites}
    return _note.of_config(told, CONFIG, _written, module, leaves, **known)


def save(trained: Trained, path: Path) -> None:
    """Writes a folder.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that the format cannot hold.
    """
    told, leaves = _written(trained), _foreign.leaves(trained)
    arrays = {key: np.asarray(leaves[leaf], np.float32) for key, leaf in _LEAVES.items()}
    arrays["decoder.weight"] = np.ascontiguousarray(arrays["decoder.weight"].T)
    (path / ROOM).mkdir(parents=True)
    files.save_tensors(arrays, path / ROOM / WEIGHTS)
    _foreign.write_config(path / CONFIG, told | {_note.NOTE: _note.note(trained)})


def _read(path: Path, told: Mapping[str, Any], d_in: int, n_latents: int) -> dict[str, np.ndarray]:
    """The leaves, on raw activations."""
    sizes = {"encoder.weight": (n_latents, d_in), "encoder.bias": (n_latents,)}
    sizes |= {"decoder.weight": (d_in, n_latents), "decoder.bias": (d_in,)}
    arrays = _foreign.tensors(path, f"{ROOM}/{WEIGHTS}", sizes)
    arrays["decoder.weight"] = np.ascontiguousarray(arrays["decoder.weight"].T)
    leaves = {leaf: arrays[key] for key, leaf in _LEAVES.items()}
    _fold(told, leaves, d_in)
    if _foreign.one_of(told, "sparsity_include_decoder_norm", (True, False), True):
        _foreign.unit_atoms(leaves)
    return leaves


def _number(told: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = told.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key}={value!r} must be a number.")
    return float(value)


def _fold(told: Mapping[str, Any], leaves: dict[str, np.ndarray], d_in: int) -> None:
    """Moves the scales of the activations into the weights."""
    kinds = ("dataset-wise", "inference", "none")
    if _foreign.one_of(told, "norm_activation", kinds, "dataset-wise") != "dataset-wise":
        return
    means = _foreign.part(told, "dataset_average_activation_norm")
    s_in, s_out = (math.sqrt(d_in) / _positive(means, key) for key in ("in", "out"))
    for leaf, by in (("b_enc_F", 1 / s_in), ("b_dec_D", 1 / s_out), ("W_dec_FD", s_in / s_out)):
        leaves[f"params/{leaf}"] = (leaves[f"params/{leaf}"] * by).astype(np.float32)


def _positive(told: Mapping[str, Any], key: str) -> float:
    if (value := _number(told, key)) <= 0:
        raise ValueError(f"dataset_average_activation_norm.{key}={value} must be positive.")
    return value


def _place(told: Mapping[str, Any], d_in: int) -> dict[str, Any]:
    """Whether it is a transcoder, and whether its encoder reads x - b_dec."""
    across = told.get("hook_point_out") not in (None, told.get("hook_point_in"))
    bias = _foreign.one_of(told, "apply_decoder_bias_to_pre_encoder", (True, False), True)
    if across and bias:
        raise ValueError("apply_decoder_bias_to_pre_encoder=True is not read for a transcoder.")
    return {"subtract_b_dec": bias, "d_out": d_in if across else None}


def _written(trained: Trained) -> dict[str, Any]:
    """hyperparams.json: the keys that its loader reads."""
    made = dictionaries.describe(trained.module)
    name, kind = made["name"], made.get("activation")
    if name not in _STRUCTURES or kind not in _KINDS:
        raise ValueError(f"Llama Scope's folders have no act_fn for {name} with {kind}.")
    _foreign.check_raw(trained)
    if made["d_out"] is not None:
        raise ValueError(
            f"Llama Scope's folders are written for autoencoders; this {name} is a transcoder."
        )
    _foreign.check_plain(made, "Llama Scope")
    site = trained.sites[0] if len(trained.sites) == 1 else None
    place = _hooks.hook(site.tap[0]) if site is not None and len(site.tap) == 1 else "in"
    return {
        "d_model": made["d_in"],
        "d_sae": made["n_latents"],
        "act_fn": kind,
        "jump_relu_threshold": 0.0,
        "top_k": int(made.get("k", 50)),
        "norm_activation": "inference",
        "sparsity_include_decoder_norm": False,
        "apply_decoder_bias_to_pre_encoder": made["subtract_b_dec"],
        "use_decoder_bias": True,
        "use_glu_encoder": False,
        "hook_point_in": place,
        "hook_point_out": place,
    }
