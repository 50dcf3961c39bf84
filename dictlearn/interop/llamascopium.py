"""Llamascopium's folders (OpenMOSS): `config.json` and `sae_weights.safetensors`, of SAEs, transcoders and
crosscoders.

    z = (s x) W_E + b_E        f = z [g(z |d|)]        y = (f W_D + b_D) / s'

W_E is [D, F] and W_D [F, D]; nothing is subtracted from the input. g is ReLU, JumpReLU with the exponential of
its log_jumprelu_threshold, or TopK after a ReLU. It is applied to z |d| with `sparsity_include_decoder_norm`,
and to z without it. s and s' are sqrt(D) over the norms in `dataset_average_activation_norm.HOOK`
(dataset-wise), 1 (inference), or sqrt(D) / |x| (token-wise). Llama Scope R1 has encoder.weight [F, D] and
decoder.weight [D, F] instead.

A crosscoder has an axis of heads, one for each source, before the others, and z is a sum over the heads. It
applies g to z |d^h| in every head h by itself. For ReLU, the codes are therefore the same in all heads. For
JumpReLU and TopK, they are the same only where a latent has the same norm in all heads; other crosscoders of
these are refused.

BatchTopK depends on the whole batch: files that were converted to JumpReLU are read, and ours is written as a
JumpReLU. Gated encoders, MoLT and Lorsa are refused; cross-layer transcoders are `llamascopium_clt`. Everything
that the library has no key for is kept under `dictlearn` in config.json.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import dictionaries
from dictlearn.interop import _foreign, _hooks, _llamascopium, _note
from dictlearn.interop._llamascopium import CONFIG, CROSSCODER, LOG, RANKS, SAE, WEIGHTS
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Site, Trained

SUFFIX = ""
_LEAVES = {
    "W_E": "params/W_enc_FD",
    "b_E": "params/b_enc_F",
    "W_D": "params/W_dec_FD",
    "b_D": "params/b_dec_D",
    LOG: _note.THRESHOLD,
}
_R1 = {"W_E": "encoder.weight", "b_E": "encoder.bias", "W_D": "decoder.weight"}
_R1 |= {"b_D": "decoder.bias", LOG: "log_jumprelu_threshold"}
LEAVES = {*_LEAVES.values(), *_note.RUNNING}
_KINDS = {"relu": "relu", "jumprelu": "jumprelu", "topk": "topk", "batch_topk": "jumprelu"}
_NAMES = {*_KINDS, "matryoshka", "crosscoder"}
_READ = ("relu", "jumprelu", "topk")
_NEAR = 1e-5
"""The largest relative difference of norms that count as the same."""


def recognises(path: Path) -> bool:
    """Whether a path is a folder of Llamascopium, not of a cross-layer transcoder.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    return _llamascopium.kind(path) not in (None, _llamascopium.CLT)


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
    if _foreign.one_of(told, "sae_type", (SAE, CROSSCODER), SAE) == CROSSCODER:
        return _crosscoder(path, told)
    _foreign.one_of(told, "use_glu_encoder", (False,), False)
    kind = _foreign.one_of(told, "act_fn", _READ, "relu")
    ranks = _foreign.one_of(told, RANKS, (True, False), True)
    d_in = _foreign.integer(told, "d_model")
    hooks = told.get("hook_point_in"), told.get("hook_point_out")
    leaves, averages = _read(path, told, kind, d_in)
    norm_F = np.linalg.norm(leaves["params/W_dec_FD"].astype(np.float64), axis=1)
    if kind == "jumprelu" and ranks:
        leaves[_note.THRESHOLD] -= _log(norm_F)
    norm = _norm(told, leaves, averages, d_in)
    fields: dict[str, Any] = _fields(told, kind, ranks) | {
        "d_out": d_in if hooks[0] != hooks[1] else None
    }
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
    arrays = {key: np.asarray(leaves[leaf]) for key, leaf in _LEAVES.items() if key != LOG}
    arrays["W_E"] = arrays["W_E"].T
    threshold_F = _foreign.thresholds(trained)
    if told["sae_type"] == CROSSCODER:
        hooks = told["hook_points"]
        norm_F = _same_norms(arrays["W_D"], len(hooks), told["act_fn"])
        arrays = _by_head(arrays, len(hooks))
        arrays |= _llamascopium.normed(trained, [hooks] * 2, told["d_model"])
        threshold_F = None if threshold_F is None else threshold_F * norm_F
    if threshold_F is not None:
        arrays[LOG] = _foreign.log_threshold(threshold_F)
    told = {**told, _note.NOTE: _note.note(trained)}
    _foreign.write(path, WEIGHTS, arrays, CONFIG, told)


def _fields(told: Mapping[str, Any], kind: str, ranks: bool) -> dict[str, Any]:
    """The fields of the dictionary that the config states; the penalty is not told."""
    fields: dict[str, Any] = {"sparsity": 0.0}
    if kind == "topk":
        fields = {"k": _foreign.integer(told, "top_k"), "norm_weighted": ranks}
    return {**fields, "subtract_b_dec": False}


def _log(norm_F: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(norm_F, 1e-37)).astype(np.float32)


def _crosscoder(path: Path, told: Mapping[str, Any]) -> Trained:
    """The crosscoder in the folder."""
    for key in (RANKS, "use_decoder_bias"):
        _foreign.one_of(told, key, (True,), True)
    kind, d = _foreign.one_of(told, "act_fn", _READ, "relu"), _foreign.integer(told, "d_model")
    n, _, n_latents = _llamascopium.shape(path, "W_E", 3)
    hooks = _llamascopium.hooks(told, "hook_points", n)
    wanted = {"W_E": (n, d, n_latents), "b_E": (n, n_latents), "W_D": (n, n_latents, d)}
    wanted |= {"b_D": (n, d)} | ({LOG: (n_latents,)} if kind == "jumprelu" else {})
    found, averages = _llamascopium.arrays(path, wanted)
    leaves = {
        "params/W_enc_FD": found["W_E"].transpose(2, 0, 1).reshape(n_latents, -1),
        "params/b_enc_F": found["b_E"].sum(0),
        "params/W_dec_FD": found["W_D"].transpose(1, 0, 2).reshape(n_latents, -1),
        "params/b_dec_D": found["b_D"].reshape(-1),
    }
    norm_F = _same_norms(leaves["params/W_dec_FD"], n, kind)
    if kind == "jumprelu":
        leaves[_note.THRESHOLD] = found[LOG] - _log(norm_F)
    sizes: dict[str, Any] = {"d_in": n * d, "sources": n, "n_latents": n_latents}
    module = dictionaries.make("crosscoder", activation=kind, **_fields(told, kind, True), **sizes)
    norm, taps = _llamascopium.norm(told, [hooks] * 2, averages, d), tuple(map(_hooks.tap, hooks))
    known = {"name": path.name, "sites": (Site({}, taps, taps, {}),), "norm": norm}
    return _note.of_config(told, CONFIG, _written, module, leaves, **known)


def _by_head(arrays: Mapping[str, np.ndarray], n: int) -> dict[str, np.ndarray]:
    """The arrays of a crosscoder of n heads; the first head has the bias of the encoder, and the sum over heads
    is the same."""
    d_in, n_latents = arrays["W_E"].shape
    return {
        "W_E": arrays["W_E"].reshape(n, d_in // n, n_latents),
        "b_E": np.concatenate([arrays["b_E"][None], np.zeros((n - 1, n_latents))]),
        "W_D": arrays["W_D"].reshape(n_latents, n, d_in // n).transpose(1, 0, 2),
        "b_D": arrays["b_D"].reshape(n, -1),
    }


def _same_norms(W_dec_FD: np.ndarray, n: int, act_fn: str) -> np.ndarray:
    """The norm of each latent in every head. Raises ValueError for a latent that does not write to a head,
    where its code would be 0 / 0, and for norms that differ where the codes depend on them."""
    rows_FHD = W_dec_FD.reshape(len(W_dec_FD), n, -1).astype(np.float64)
    norm_FH = np.linalg.norm(rows_FHD, axis=2)
    least_F, most_F = norm_FH.min(1), norm_FH.max(1)
    if not (least_F > 0).all():
        raise ValueError(
            f"Llamascopium divides the codes of a crosscoder by decoder norms, and {(least_F == 0).sum()} of "
            "its latents do not write to some head."
        )
    if act_fn != "relu" and (most_F - least_F > _NEAR * most_F).any():
        raise ValueError(
            f"Llamascopium's crosscoder of {act_fn} has other codes in every head, because its decoder norms "
            "differ between the heads; only that of relu has one code for all heads."
        )
    return norm_FH.mean(1)


def _read(
    path: Path, told: Mapping[str, Any], kind: str, d_in: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """(leaves, averages of norms by hook) of the weights of an SAE or a transcoder."""
    old = "encoder.weight" in _foreign.shapes(_foreign.inside(path, WEIGHTS))
    matrix = _llamascopium.shape(path, _R1["W_E"] if old else "W_E", 2)
    n_latents = matrix[0 if old else 1]
    sizes = {"W_E": (d_in, n_latents), "b_E": (n_latents,), "W_D": (n_latents, d_in)}
    if _foreign.one_of(told, "use_decoder_bias", (True, False), True):
        sizes["b_D"] = (d_in,)
    sizes |= {LOG: (n_latents,)} if kind == "jumprelu" else {}
    names = {key: _R1[key] if old else key for key in sizes}
    wanted = {names[key]: shape[:: -1 if old else 1] for key, shape in sizes.items()}
    found, averages = _llamascopium.arrays(path, wanted)
    arrays = {key: found[name].T if old else found[name] for key, name in names.items()}
    arrays["W_E"] = np.ascontiguousarray(arrays["W_E"].T)
    leaves = {"params/b_dec_D": np.zeros(d_in, np.float32)}
    return leaves | {_LEAVES[key]: array for key, array in arrays.items()}, averages


def _norm(
    told: Mapping[str, Any], leaves: dict[str, np.ndarray], averages: Mapping[str, float], d_in: int
) -> Norm:
    """The normalisation; a factor between theirs and ours is moved into the weights."""
    kind = _llamascopium.norm_kind(told, "token-wise")
    if kind == "inference":
        return Norm()
    if kind == "token-wise":
        width = math.sqrt(d_in)
        for leaf, by in (("W_enc_FD", width), ("W_dec_FD", 1 / width), ("b_dec_D", 1 / width)):
            leaves[f"params/{leaf}"] = (leaves[f"params/{leaf}"] * by).astype(np.float32)
        return Norm("token_unit")
    sides = [[told.get("hook_point_in")], [told.get("hook_point_out")]]
    scales = _llamascopium.scales(sides, averages, d_in)
    return Norm("mean_norm_sqrt_d", *(scale for (scale,) in scales))


def _written(trained: Trained) -> dict[str, Any]:
    """config.json, as the library writes it."""
    made = dictionaries.describe(trained.module)
    act_fn, n = _llamascopium.check(made, _NAMES, _KINDS), made.get("sources")
    told = {"act_fn": act_fn, "top_k": int(made.get("k", 50))}
    hooks = _llamascopium.places(trained, n or 1, made["d_out"] is not None)
    if n is None:
        _foreign.check_raw(trained)
        weighted = bool(act_fn == "topk" and made["norm_weighted"])
        told |= {"use_glu_encoder": False, "norm_activation": "inference", RANKS: weighted}
        told |= {"hook_point_in": hooks[0][0], "hook_point_out": hooks[1][0]}
        return _llamascopium.config(SAE, made["d_in"], made["n_latents"], **told)
    if made["d_out"] is not None:
        raise ValueError(
            "Llamascopium's crosscoder writes to the hooks that it reads; it has no d_out."
        )
    if act_fn == "topk" and not made["norm_weighted"]:
        raise ValueError("Llamascopium's crosscoder ranks by decoder norms; set norm_weighted.")
    told |= {
        "norm_activation": _llamascopium.of_norm(trained),
        "hook_points": hooks[0],
        RANKS: True,
    }
    return _llamascopium.config(CROSSCODER, made["d_in"] // n, made["n_latents"], **told)
