"""sparsify's folders (EleutherAI): `cfg.json` and `sae.safetensors`.

    topk, groupmax     of (x - b_dec) W^T + b, or of x W^T + b in a transcoder, whose target is as wide as its
                       input; y = z W_dec + b_dec + x W_skip^T

encoder.weight is [F, D], W_dec [F, D]. Everything that sparsify has no key for is stored under `dictlearn` in
cfg.json, which sparsify ignores with a message.
"""

from pathlib import Path
from typing import Any

from dictlearn import dictionaries
from dictlearn.interop import _foreign, _note
from dictlearn.runs.trained import Trained

SUFFIX = ""
CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
_LEAVES = {
    "encoder.weight": "params/W_enc_FD",
    "encoder.bias": "params/b_enc_F",
    "W_dec": "params/W_dec_FD",
    "b_dec": "params/b_dec_D",
    "W_skip": "params/W_skip_DD",
}
LEAVES = set(_LEAVES.values())
_KINDS = {"topk": "topk", "groupmax": "group_max"}
_STRUCTURES = {*_KINDS.values(), "matryoshka"}
"""Structures whose inference is that of the linear dictionary with their activation."""


def recognises(path: Path) -> bool:
    """Whether a path is a folder with both files.

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
    kind = _foreign.one_of(told, "activation", _KINDS, "topk")
    width = _foreign.integer(told, "d_in")
    n_latents = told.get("num_latents") or width * _foreign.integer(told, "expansion_factor")
    n_latents = _foreign.integer({"num_latents": n_latents}, "num_latents")
    transcodes = _foreign.one_of(told, "transcode", (True, False), False)
    skip = _foreign.one_of(told, "skip_connection", (True, False), False)
    shapes = {"encoder.weight": (n_latents, width), "encoder.bias": (n_latents,)}
    shapes |= {"W_dec": (n_latents, width), "b_dec": (width,)}
    shapes |= {"W_skip": (width, width)} if skip else {}
    arrays = _foreign.tensors(path, WEIGHTS, shapes)
    # In sparsify an autoencoder, which subtracts b_dec, may have a skip; here only a transcoder may.
    if skip and not transcodes:
        raise ValueError("skip_connection=True without transcode=True is not read.")
    fields = {
        "k": _foreign.integer(told, "k"),
        "skip": skip,
        "d_out": width if transcodes else None,
    }
    module = dictionaries.make(_KINDS[kind], d_in=width, n_latents=n_latents, **fields)
    leaves = {_LEAVES[key]: array for key, array in arrays.items()}
    return _note.of_config(told, CONFIG, _written, module, leaves, name=path.name)


def save(trained: Trained, path: Path) -> None:
    """Writes a folder.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary with an activation that sparsify does not have.
    """
    told = _written(trained) | {_note.NOTE: _note.note(trained)}
    params = trained.variables["params"]
    arrays = {key: leaf.rpartition("/")[2] for key, leaf in _LEAVES.items()}
    whole = {key: params[leaf] for key, leaf in arrays.items() if leaf in params}
    _foreign.write(path, WEIGHTS, whole, CONFIG, told)


def _written(trained: Trained) -> dict[str, Any]:
    """The cfg.json that sparsify would write."""
    made = dictionaries.describe(trained.module)
    name, kind = made["name"], made.get("activation")
    kinds = {ours: theirs for theirs, ours in _KINDS.items()}
    if name not in _STRUCTURES or kind not in kinds:
        raise ValueError(f"sparsify has no activation for {name} with {kind}.")
    _foreign.check_raw(trained)
    if made["d_out"] not in (None, made["d_in"]):
        raise ValueError(
            f"sparsify's {name} writes as many columns as it reads, not {made['d_out']}."
        )
    if made["d_out"] is None and not made["subtract_b_dec"]:
        raise ValueError(f"sparsify's autoencoders subtract b_dec; this {name} does not.")
    if made["n_latents"] % made["k"] and kind == "group_max":
        raise ValueError(
            f"sparsify's groups are equal: k={made['k']} of {name} does not divide F={made['n_latents']}."
        )
    _foreign.check_plain(made, "sparsify")
    return {
        "activation": kinds[kind],
        "expansion_factor": max(1, made["n_latents"] // made["d_in"]),
        "normalize_decoder": True,
        "num_latents": made["n_latents"],
        "k": int(made["k"]),
        "multi_topk": bool(made.get("multi")),
        "skip_connection": made["skip"],
        "transcode": made["d_out"] is not None,
        "d_in": made["d_in"],
    }
