"""Gemma Scope's files: JumpReLU SAEs, transcoders and skip transcoders whose encoder reads x without b_dec.

    f = z [z > threshold]   z = x W_enc + b_enc      y = f W_dec + b_dec (+ x affine_skip_connection)

Gemma Scope 1 has `params.npz` with W_enc [D, F], W_dec [F, D'], b_enc, b_dec and threshold. Gemma Scope 2 has
`params.safetensors` with w_enc and w_dec instead, and affine_skip_connection [D, D'] where there is a skip. An
optional `config.json` in the same folder has the site. Files are written in the format of 2, with a `note` in
the metadata for everything else. Cross-layer transcoders, whose w_dec has three axes, are
`gemma_scope_clt`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import dictionaries, files
from dictlearn.interop import _foreign, _note
from dictlearn.runs.trained import Site, Trained

SUFFIX = ".safetensors"
_LEAVES = {
    "w_enc": "params/W_enc_FD",
    "w_dec": "params/W_dec_FD",
    "b_enc": "params/b_enc_F",
    "b_dec": "params/b_dec_D",
    "threshold": "params/log_threshold_F",
    "affine_skip_connection": "params/W_skip_DD",
}
LEAVES = set(_LEAVES.values())
_ALWAYS = _LEAVES.keys() - {"affine_skip_connection"}


def recognises(path: Path) -> bool:
    """Whether a path is a file with the arrays of Gemma Scope.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    try:
        there = {key.lower() for key in _foreign.shapes(path)} if path.is_file() else set()
        return there >= _ALWAYS and "header" not in there and not any("/" in key for key in there)
    except ValueError:
        return False


def load(path: Path) -> Trained:
    """Loads the dictionary in the file.

    Args:
        path: the file.

    Returns:
        A Trained.

    Raises:
        ValueError: for arrays that do not fit each other.
    """
    shapes = _foreign.shapes(path)
    there = {key.lower(): key for key in shapes}
    w_enc, w_dec = (shapes[there[key]] for key in ("w_enc", "w_dec"))
    if len(w_enc) != 2 or len(w_dec) != 2:
        raise ValueError(
            f"w_enc is {list(w_enc)} and w_dec {list(w_dec)}; only two axes each are read."
        )
    (d_in, n_latents), d_out = w_enc, w_dec[1]
    wanted = {"w_enc": w_enc, "w_dec": (n_latents, d_out), "b_enc": (n_latents,)}
    wanted |= {"b_dec": (d_out,), "threshold": (n_latents,)}
    skip = "affine_skip_connection" in there
    wanted |= {"affine_skip_connection": (d_in, d_out)} if skip else {}
    found = _foreign.arrays(path, {there.get(key, key): shape for key, shape in wanted.items()})
    arrays = {key.lower(): array for key, array in found.items()}
    for key in ("w_enc", *(["affine_skip_connection"] if skip else [])):
        arrays[key] = np.ascontiguousarray(arrays[key].T)
    arrays["threshold"] = _foreign.log_threshold(arrays["threshold"])
    told = _about(path)
    across = skip or d_in != d_out or told.get("hf_hook_point_in") != told.get("hf_hook_point_out")
    fields: dict[str, Any] = {"d_out": d_out if across else None, "skip": skip, "sparsity": 0.0}
    module = dictionaries.make(
        "jumprelu", d_in=d_in, n_latents=n_latents, subtract_b_dec=False, **fields
    )
    leaves = {_LEAVES[key]: array for key, array in arrays.items()}
    known = {"name": path.stem, "sites": _sites(told)}
    return _note.noted(_note.note_of(path), module, leaves, **known)


def save(trained: Trained, path: Path) -> None:
    """Writes a file of Gemma Scope 2.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that is not a JumpReLU whose encoder reads x.
    """
    made = dictionaries.describe(trained.module)
    name, kind = made["name"], made.get("activation")
    if name != kind or "params/log_threshold_F" not in _foreign.leaves(trained):
        raise ValueError(f"Gemma Scope has only JumpReLU, not {name} with {kind}.")
    _foreign.check_raw(trained)
    if made["d_out"] is None and made["subtract_b_dec"]:
        raise ValueError(
            f"Gemma Scope's dictionaries subtract nothing; this {name} subtracts b_dec."
        )
    params = {key: np.asarray(leaf, np.float32) for key, leaf in _foreign.leaves(trained).items()}
    arrays = {key: params[leaf] for key, leaf in _LEAVES.items() if leaf in params}
    arrays["threshold"] = np.exp(arrays["threshold"])
    for key in arrays.keys() & {"w_enc", "affine_skip_connection"}:
        arrays[key] = np.ascontiguousarray(arrays[key].T)
    files.save_tensors(arrays, path, {_note.METADATA: json.dumps(_note.note(trained))})


def _about(path: Path) -> Mapping[str, Any]:
    """The config in the same folder; empty if it is missing."""
    if not (path.parent / "config.json").is_file():
        return {}
    told = _foreign.config(path.parent, "config.json")
    return told if told.get("architecture") == "jump_relu" else {}


def _sites(told: Mapping[str, Any]) -> tuple[Site, ...]:
    read, written = told.get("hf_hook_point_in"), told.get("hf_hook_point_out")
    if not isinstance(read, str) or not isinstance(written, str):
        return ()
    return (Site({"name": told.get("model_name")}, (read,), (written,), {}),)
