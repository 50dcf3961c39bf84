"""Llamascopium's folders (OpenMOSS): `config.json` and `sae_weights.safetensors`, of SAEs and transcoders.

    z = (s x) W_E + b_E        f = z [g(z |d|)]        y = (f W_D + b_D) / s'

W_E is [D, F] and W_D [F, D]; nothing is subtracted from the input. g is ReLU, JumpReLU with the exponential of
its log_jumprelu_threshold, or TopK after a ReLU. It is applied to z |d| with `sparsity_include_decoder_norm`,
and to z without it. s and s' are sqrt(D) over the norms in `dataset_average_activation_norm.HOOK`
(dataset-wise), 1 (inference), or sqrt(D) / |x| (token-wise). Llama Scope R1 has encoder.weight [F, D] and
decoder.weight [D, F] instead.

BatchTopK depends on the whole batch: files that were converted to JumpReLU are read, and ours is written as a
JumpReLU. Gated encoders, crosscoders, cross-layer transcoders and Lorsa are refused. Everything that the
library has no key for is kept under `dictlearn` in config.json.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import dictionaries
from dictlearn.interop import _foreign, _hooks, _note
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Trained

SUFFIX = ""
CONFIG, WEIGHTS = "config.json", "sae_weights.safetensors"
_LOG = "activation_function.log_jumprelu_threshold"
_LEAVES = {
    "W_E": "params/W_enc_FD",
    "b_E": "params/b_enc_F",
    "W_D": "params/W_dec_FD",
    "b_D": "params/b_dec_D",
    _LOG: _note.THRESHOLD,
}
_R1 = {"W_E": "encoder.weight", "b_E": "encoder.bias", "W_D": "decoder.weight"}
_R1 |= {"b_D": "decoder.bias", _LOG: "log_jumprelu_threshold"}
_AVERAGE = "dataset_average_activation_norm."
LEAVES = {*_LEAVES.values(), *_note.RUNNING}
_KINDS = ("relu", "jumprelu", "topk")
_STRUCTURES = {*_KINDS, "batch_topk", "matryoshka"}


def recognises(path: Path) -> bool:
    """Whether a path is a folder of Llamascopium.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    return _foreign.has(path, CONFIG, WEIGHTS)


def load(path: Path) -> Trained:
    """Loads the dictionary in the folder.

    Args:
        path: the folder.

    Returns:
        A Trained.

    Raises:
        ValueError: for a key or a tensor that cannot be read, naming it.
    """
    told = _foreign.config(path, CONFIG)
    _foreign.one_of(told, "sae_type", ("sae",), "sae")
    _foreign.one_of(told, "use_glu_encoder", (False,), False)
    kind = _foreign.one_of(told, "act_fn", _KINDS, "relu")
    ranks = _foreign.one_of(told, "sparsity_include_decoder_norm", (True, False), True)
    d_in = _foreign.integer(told, "d_model")
    hooks = told.get("hook_point_in"), told.get("hook_point_out")
    leaves, averages = _read(path, told, kind, d_in)
    norm_F = np.linalg.norm(leaves["params/W_dec_FD"].astype(np.float64), axis=1)
    if kind == "jumprelu" and ranks:
        leaves[_note.THRESHOLD] -= np.log(np.maximum(norm_F, 1e-37)).astype(np.float32)
    norm = _norm(told, leaves, averages, d_in)
    fields: dict[str, Any] = {"sparsity": 0.0}  # not told
    if kind == "topk":
        fields = {"k": _foreign.integer(told, "top_k"), "norm_weighted": ranks}
    fields |= {"subtract_b_dec": False, "d_out": d_in if hooks[0] != hooks[1] else None}
    module = dictionaries.make(kind, d_in=d_in, n_latents=len(norm_F), **fields)
    known = {"name": path.name, "sites": _hooks.sites(*hooks), "norm": norm}
    return _note.of_config(told, CONFIG, _written, module, leaves, **known)


def save(trained: Trained, path: Path) -> None:
    """Writes a folder.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that Llamascopium cannot hold.
    """
    told, leaves = _written(trained), _foreign.leaves(trained)
    arrays = {key: leaves[leaf] for key, leaf in _LEAVES.items() if key != _LOG}
    arrays["W_E"] = np.asarray(arrays["W_E"]).T
    threshold_F = _foreign.thresholds(trained)
    if threshold_F is not None:
        arrays[_LOG] = _foreign.log_threshold(threshold_F)
    told = {**told, _note.NOTE: _note.note(trained)}
    _foreign.write(path, WEIGHTS, arrays, CONFIG, told)


def _read(
    path: Path, told: Mapping[str, Any], kind: str, d_in: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """(leaves, averages of norms by hook) of the weights."""
    there = _foreign.shapes(_foreign.inside(path, WEIGHTS))
    old = "encoder.weight" in there
    matrix = there.get(_R1["W_E"] if old else "W_E", ())
    if len(matrix) != 2:
        raise ValueError(f"{WEIGHTS} lacks a W_E of two axes; it holds {', '.join(sorted(there))}.")
    n_latents = matrix[0 if old else 1]
    sizes = {"W_E": (d_in, n_latents), "b_E": (n_latents,), "W_D": (n_latents, d_in)}
    if _foreign.one_of(told, "use_decoder_bias", (True, False), True):
        sizes["b_D"] = (d_in,)
    sizes |= {_LOG: (n_latents,)} if kind == "jumprelu" else {}
    names = {key: _R1[key] if old else key for key in sizes}
    wanted = {names[key]: shape[:: -1 if old else 1] for key, shape in sizes.items()}
    wanted |= {key: () for key in there if key.startswith(_AVERAGE)}
    found = _foreign.tensors(path, WEIGHTS, wanted)
    arrays = {key: found[name].T if old else found[name] for key, name in names.items()}
    arrays["W_E"] = np.ascontiguousarray(arrays["W_E"].T)
    leaves = {"params/b_dec_D": np.zeros(d_in, np.float32)}
    leaves |= {_LEAVES[key]: array for key, array in arrays.items()}
    averages = {
        k.removeprefix(_AVERAGE): float(a) for k, a in found.items() if k.startswith(_AVERAGE)
    }
    return leaves, averages


def _norm(
    told: Mapping[str, Any], leaves: dict[str, np.ndarray], averages: Mapping[str, float], d_in: int
) -> Norm:
    """The normalisation; a factor between theirs and ours is moved into the weights."""
    kinds = ("dataset-wise", "inference", "token-wise")
    kind = _foreign.one_of(told, "norm_activation", kinds, "dataset-wise")
    if kind == "inference":
        return Norm()
    width = math.sqrt(d_in)
    if kind == "token-wise":
        for leaf, by in (("W_enc_FD", width), ("W_dec_FD", 1 / width), ("b_dec_D", 1 / width)):
            leaves[f"params/{leaf}"] = (leaves[f"params/{leaf}"] * by).astype(np.float32)
        return Norm("token_unit")
    hooks = [str(told.get(key)) for key in ("hook_point_in", "hook_point_out")]
    if lacking := sorted(set(hooks) - {hook for hook, value in averages.items() if value > 0}):
        raise ValueError(
            f"norm_activation='dataset-wise' needs {_AVERAGE}{lacking[0]} in {WEIGHTS}: save it from "
            "Llamascopium with fold_activation_scale=True."
        )
    scales = [width / averages[hook] for hook in hooks]
    return Norm("mean_norm_sqrt_d", *scales)


def _written(trained: Trained) -> dict[str, Any]:
    """config.json, as the library writes it."""
    made = dictionaries.describe(trained.module)
    _check(trained, made)
    d_in, n_latents, kind = made["d_in"], made["n_latents"], made["activation"]
    hooks = _places(trained, made["d_out"] is not None)
    return {
        "sae_type": "sae",
        "d_model": d_in,
        "d_sae": n_latents,
        "expansion_factor": n_latents / d_in,
        "use_decoder_bias": True,
        "use_glu_encoder": False,
        "act_fn": kind if kind in _KINDS else "jumprelu",
        "norm_activation": "inference",
        "sparsity_include_decoder_norm": bool(kind == "topk" and made["norm_weighted"]),
        "top_k": int(made.get("k", 50)),
        "hook_point_in": hooks[0],
        "hook_point_out": hooks[1],
    }


def _check(trained: Trained, made: Mapping[str, Any]) -> None:
    """Raises ValueError for a dictionary that the library does not compute."""
    name, kind = made["name"], made.get("activation")
    if name not in _STRUCTURES or kind not in _STRUCTURES:
        raise ValueError(f"Llamascopium has no act_fn for {name} with {kind}.")
    _foreign.check_raw(trained)
    d_in, n_latents = made["d_in"], made["n_latents"]
    if made["d_out"] not in (None, d_in) or made.get("skip"):
        raise ValueError(f"Llamascopium's {name} writes {d_in} columns and has no skip.")
    if made["d_out"] is None and made["subtract_b_dec"]:
        raise ValueError(f"Llamascopium subtracts nothing; this {name} subtracts b_dec.")
    if made.get("anneal_steps"):
        raise ValueError(f"Llamascopium has no anneal_steps, which {name} has.")
    if int(d_in * (n_latents / d_in)) != n_latents:
        raise ValueError(f"Llamascopium cannot express F={n_latents} as a multiple of D={d_in}.")


def _places(trained: Trained, across: bool) -> list[str]:
    """The hooks that it reads and writes; "in" and "out" where they are not known."""
    site = trained.sites[0] if len(trained.sites) == 1 else None
    if site is None or len(site.tap) != 1 or (across and len(site.target) != 1):
        return ["in", "out" if across else "in"]
    return [_hooks.hook(site.tap[0]), _hooks.hook(site.target[0] if across else site.tap[0])]
