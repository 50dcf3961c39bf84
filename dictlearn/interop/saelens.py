"""SAELens' folders: `cfg.json` and `sae_weights.safetensors`, of version 6 and earlier.

    standard, transcoder            ReLU
    topk, abstopk                   TopK, AbsTopK
    jumprelu, jumprelu_transcoder   JumpReLU; BatchTopK is written as one, with the same threshold everywhere
    gated                           Gated
    skip_transcoder, jumprelu_skip_transcoder    with the matrix of the skip

W_enc is [D, F], W_dec [F, D'], W_skip [D', D]. With `apply_b_dec_to_input` the encoder reads x - b_dec. TopK
with `rescale_acts_by_decoder_norm` is read with unit atoms and with their norms in the encoder, which is the
same function. `layer_norm` and `constant_norm_rescale` become our per-token normalisations, with their
factors in the weights. `expected_average_only_in` needs a scale that the files do not contain.

A file that was written here has, under `dictlearn` in cfg.json, everything that SAELens has no key for. It is
restored to the bit except for thresholds, which SAELens stores and JumpReLU here keeps as logarithms.
"""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import dictionaries
from dictlearn.interop import _foreign, _hooks, _note
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Site, Trained

log = logging.getLogger("dictlearn")

SUFFIX = ""
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
LIBRARY = "SAELens", 'from sae_lens import SAE\n\nsae = SAE.from_pretrained("{repo}", "{path}")'
_PARAMS = {
    "W_enc": "params/W_enc_FD",
    "b_enc": "params/b_enc_F",
    "W_dec": "params/W_dec_FD",
    "b_dec": "params/b_dec_D",
    "W_skip": "params/W_skip_DD",
    "threshold": "params/log_threshold_F",
    "b_gate": "params/b_enc_F",
    "b_mag": "params/b_mag_F",
    "r_mag": "params/r_mag_F",
}
LEAVES = {*_PARAMS.values(), *_note.RUNNING}
_LINEAR = ("W_enc", "b_enc", "W_dec", "b_dec")
_KEYS = {
    "standard": ("relu", _LINEAR),
    "topk": ("topk", _LINEAR),
    "abstopk": ("abs_topk", _LINEAR),
    "jumprelu": ("jumprelu", (*_LINEAR, "threshold")),
    "gated": ("gated", ("W_enc", "b_gate", "b_mag", "r_mag", "W_dec", "b_dec")),
    "transcoder": ("relu", _LINEAR),
    "skip_transcoder": ("relu", (*_LINEAR, "W_skip")),
    "jumprelu_transcoder": ("jumprelu", (*_LINEAR, "threshold")),
    "jumprelu_skip_transcoder": ("jumprelu", (*_LINEAR, "threshold", "W_skip")),
}
"""architecture: our dictionary, and the tensors of the file, exactly."""
_WRITTEN = {
    "relu": "standard",
    "topk": "topk",
    "abs_topk": "abstopk",
    "jumprelu": "jumprelu",
    "batch_topk": "jumprelu",
    "gated": "gated",
}
_STRUCTURES = {*_WRITTEN, "matryoshka"}
"""Structures whose inference is that of the linear dictionary with their activation."""
_NORMS = ("none", "layer_norm", "constant_norm_rescale", "expected_average_only_in")


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
    told = _migrated(_foreign.config(path, CONFIG))
    name, keys = _KEYS[_foreign.one_of(told, "architecture", _KEYS)]
    d_in, n_latents = _foreign.integer(told, "d_in"), _foreign.integer(told, "d_sae")
    transcodes = "transcoder" in told["architecture"]
    d_out = _foreign.integer(told, "d_out") if transcodes else None
    _foreign.one_of(told, "reshape_activations", ("none", "hook_z"), "none")
    shapes = _shapes(keys, d_in, d_out or d_in, n_latents)
    arrays = _foreign.tensors(path, WEIGHTS, shapes)
    subtract = _foreign.one_of(told, "apply_b_dec_to_input", (True, False), not transcodes)
    fields: dict[str, Any] = {"skip": "W_skip" in keys, "subtract_b_dec": subtract}
    if "topk" in name:
        fields["k"] = _foreign.integer(told, "k")
    else:
        fields["sparsity"] = 0.0  # not told
    leaves = _leaves(arrays)
    if told.get("rescale_acts_by_decoder_norm"):
        _foreign.unit_atoms(leaves)
    norm = _normalised(told, leaves, d_in)
    module = dictionaries.make(name, d_in=d_in, n_latents=n_latents, d_out=d_out, **fields)
    written = lambda found: _written(dataclasses.replace(found, norm=Norm()))
    known = {"name": path.name, "sites": _sites(told), "norm": norm}
    return _note.of_config(told, CONFIG, written, module, leaves, **known)


def save(trained: Trained, path: Path) -> None:
    """Writes a folder.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that no architecture of SAELens can hold.
    """
    made = dictionaries.describe(trained.module)
    architecture = _architecture(trained, made)
    keys = _KEYS[architecture][1]
    params = trained.variables["params"]
    arrays = {key: np.asarray(params[_last(key)]) for key in keys if key != "threshold"}
    if "threshold" in keys:
        arrays["threshold"] = np.asarray(_foreign.thresholds(trained))
    arrays["W_enc"] = arrays["W_enc"].T
    told = _written(trained) | {_note.NOTE: _note.note(trained)}
    _foreign.write(path, WEIGHTS, arrays, CONFIG, told)


def _last(key: str) -> str:
    return _PARAMS[key].rpartition("/")[2]


def _shapes(keys: tuple[str, ...], d_in: int, d_out: int, n_latents: int) -> dict[str, tuple]:
    shapes = {"W_enc": (d_in, n_latents), "W_dec": (n_latents, d_out)}
    shapes |= {"W_skip": (d_out, d_in), "b_dec": (d_out,)}
    return {key: shapes.get(key, (n_latents,)) for key in keys}


def _leaves(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a file as leaves."""
    turned = {"W_enc": lambda a: np.ascontiguousarray(a.T), "threshold": _foreign.log_threshold}
    return {_PARAMS[key]: turned.get(key, lambda a: a)(array) for key, array in arrays.items()}


def _normalised(told: Mapping[str, Any], leaves: dict[str, np.ndarray], d_in: int) -> Norm:
    """The normalisation in their config; a factor between theirs and ours is moved into the weights."""
    kind = _foreign.one_of(told, "normalize_activations", _NORMS, "none")
    if kind == "none":
        return Norm()
    if kind == "expected_average_only_in":
        log.warning(
            "This dictionary reads activations that are scaled to a mean norm of sqrt(d_in), and its files do "
            "not hold the scale: pass dataclasses.replace(trained, norm=dictlearn.normalise.estimate("
            "'mean_norm_sqrt_d', batches))."
        )
        return Norm()
    # Theirs is our normalised input times this: the deviation over D - 1, or a norm of sqrt(D).
    factor = np.sqrt((d_in - 1) / d_in) if kind == "layer_norm" else np.sqrt(d_in)
    for key, by in (("W_enc", factor), ("W_dec", 1 / factor), ("b_dec", 1 / factor)):
        leaves[_PARAMS[key]] = (leaves[_PARAMS[key]] * by).astype(np.float32)
    return Norm("token_layernorm" if kind == "layer_norm" else "token_unit")


def _sites(told: Mapping[str, Any]) -> tuple[Site, ...]:
    about = told["metadata"]
    read = about.get("hook_name")
    if not isinstance(read, str):
        return ()
    tap, target = _hooks.tap(read), _hooks.tap(str(about.get("hook_name_out") or read))
    text = {"name": about.get("dataset_path"), "sequence_length": about.get("context_size")}
    return (Site({"name": about.get("model_name")}, (tap,), (target,), text),)


def _architecture(trained: Trained, made: Mapping[str, Any]) -> str:
    name, kind = made["name"], made.get("activation")
    if name not in _STRUCTURES or kind not in _WRITTEN:
        raise ValueError(f"SAELens has no architecture for {name} with {kind}.")
    _foreign.check_raw(trained)
    if kind == "topk":
        _foreign.check_plain(made, "SAELens")
    found = _WRITTEN[kind]
    if made["d_out"] is None:
        return found
    transcoders = {"standard": "transcoder", "jumprelu": "jumprelu_transcoder"}
    if found not in transcoders:
        raise ValueError(f"SAELens has no transcoder for {name} with {kind}.")
    return transcoders[found].replace(
        "transcoder", "skip_transcoder" if made["skip"] else "transcoder"
    )


def _written(trained: Trained) -> dict[str, Any]:
    """The cfg.json that SAELens 6 would write."""
    made = dictionaries.describe(trained.module)
    architecture = _architecture(trained, made)
    site = trained.sites[0] if len(trained.sites) == 1 else None
    about: dict[str, Any] = {"sae_lens_version": "6.54.12", "dataset_path": None}
    if site is not None and len(site.tap) == len(site.target) == 1:
        about |= {"model_name": site.model.get("name"), "hook_name": _hooks.hook(site.tap[0])}
        about |= {"context_size": site.text.get("sequence_length"), "prepend_bos": True}
        if made["d_out"] is not None:
            about["hook_name_out"] = _hooks.hook(site.target[0])
    told = {
        "architecture": architecture,
        "d_in": made["d_in"],
        "d_sae": made["n_latents"],
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": made["d_out"] is None and made["subtract_b_dec"],
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": about,
    }
    if made["d_out"] is not None:
        told["d_out"] = made["d_out"]
    if "topk" in architecture:
        told |= {"k": int(made["k"]), "rescale_acts_by_decoder_norm": False}
    return told


def _migrated(told: dict[str, Any]) -> dict[str, Any]:
    """A config from before version 6, converted to the keys of version 6."""
    about = told.get("metadata")
    if isinstance(about, dict) and ("sae_lens_version" in about or _note.NOTE in told):
        return told
    told = {"architecture": "standard", "apply_b_dec_to_input": True, **told}
    told["metadata"] = {
        "hook_name": told.get("hook_name", told.get("hook_point")),
        **{key: told.get(key) for key in ("model_name", "dataset_path", "context_size")},
        **(about if isinstance(about, dict) else {}),
    }
    kind = told.get("activation_fn", told.get("activation_fn_str", "relu"))
    if told["architecture"] == "standard" and kind == "topk":
        told |= {"architecture": "topk", "k": (told.get("activation_fn_kwargs") or {}).get("k")}
    elif kind not in ("relu", "topk"):
        raise ValueError(f"activation_fn={kind!r} is not read; it must be relu or topk.")
    norm = told.get("normalize_activations")
    if isinstance(norm, bool):
        told["normalize_activations"] = "expected_average_only_in" if norm else "none"
    return told
