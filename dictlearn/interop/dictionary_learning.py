"""dictionary_learning's folders (saprmarks): `ae.pt`, a torch state dict, and `config.json`.

    AutoEncoder, AutoEncoderNew    ReLU of x - bias, and of x
    GatedAutoEncoder               Gated
    JumpReluAutoEncoder            JumpReLU of x: no b_dec is subtracted
    AutoEncoderTopK, BatchTopKSAE, MatryoshkaBatchTopKSAE    TopK, BatchTopK, Matryoshka with BatchTopK

encoder.weight is [F, D] and decoder.weight [D, F]; W_enc is [D, F] and W_dec [F, D]. An AutoEncoder is read as
`from_pretrained` reads it: with its atoms at unit norm, and their norms in the encoder. A negative threshold
means that none is set yet. TopK's threshold, which its `encode` does not use, is not kept. Everything that the
library has no key for is kept under `dictlearn` in config.json.
"""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from dictlearn import dictionaries
from dictlearn.dictionaries.matryoshka import Matryoshka
from dictlearn.interop import _foreign, _note, _state, _torch_write
from dictlearn.runs.trained import Site, Trained

SUFFIX = ""
CONFIG, WEIGHTS = "config.json", "ae.pt"
_LINEAR = {"encoder.weight": "W_enc_FD", "encoder.bias": "b_enc_F", "decoder.weight": "W_dec_FD"}
_PLAIN = {"W_enc": "W_enc_FD", "b_enc": "b_enc_F", "W_dec": "W_dec_FD", "b_dec": "b_dec_D"}
_GATED = {"gate_bias": "b_enc_F", "mag_bias": "b_mag_F", "r_mag": "r_mag_F"}
_CLASSES = {
    "AutoEncoder": ("relu", {**_LINEAR, "bias": "b_dec_D"}),
    "AutoEncoderNew": ("relu", {**_LINEAR, "decoder.bias": "b_dec_D"}),
    "GatedAutoEncoder": (
        "gated",
        {
            "encoder.weight": "W_enc_FD",
            "decoder.weight": "W_dec_FD",
            **_GATED,
            "decoder_bias": "b_dec_D",
        },
    ),
    "JumpReluAutoEncoder": ("jumprelu", {**_PLAIN, "threshold": "log_threshold_F"}),
    "AutoEncoderTopK": ("topk", {**_LINEAR, "b_dec": "b_dec_D"}),
    "BatchTopKSAE": ("batch_topk", {**_LINEAR, "b_dec": "b_dec_D"}),
    "MatryoshkaBatchTopKSAE": ("matryoshka", _PLAIN),
}
"""dict_class: our dictionary, and the parameter for each tensor of the file."""
_TURNED = {"W_enc", "decoder.weight"}
"""Tensors that are transposes of our leaves."""
_RAW = {"AutoEncoderNew", "JumpReluAutoEncoder"}
"""Classes that subtract nothing from their input."""
LEAVES = {f"params/{leaf}" for _, keys in _CLASSES.values() for leaf in keys.values()}
LEAVES |= {*_note.RUNNING}


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
    about = _foreign.part(told, "trainer")
    kind = _foreign.one_of(about, "dict_class", _CLASSES)
    d_in = _foreign.integer(about, "activation_dim")
    n_latents = _foreign.integer(about, "dict_size")
    state = _state.read(_foreign.inside(path, WEIGHTS))
    fields = _fields(kind, state, about)
    arrays = state.arrays(_shapes(kind, d_in, n_latents))
    leaves = _leaves(kind, arrays, told.get(_note.NOTE) is not None)
    module = dictionaries.make(_CLASSES[kind][0], d_in=d_in, n_latents=n_latents, **fields)
    known = {"name": path.name, "sites": _sites(told)}
    return _note.of_config(told, CONFIG, _written, module, leaves, **known)


def save(trained: Trained, path: Path) -> None:
    """Writes a folder.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary that the library has no class for.
    """
    told = _written(trained)
    kind = told["trainer"]["dict_class"]
    path.mkdir()
    _torch_write.write(path / WEIGHTS, _arrays(trained, kind, told["trainer"]))
    _foreign.write_config(path / CONFIG, told | {_note.NOTE: _note.note(trained)})


def _arrays(trained: Trained, kind: str, about: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The tensors of a class."""
    params = trained.variables["params"]
    found = {key: params[leaf] for key, leaf in _CLASSES[kind][1].items() if key != "threshold"}
    arrays: dict[str, np.ndarray] = {
        key: np.asarray(leaf, np.float32) for key, leaf in found.items()
    }
    arrays |= {key: arrays[key].T for key in arrays.keys() & _TURNED}
    threshold = trained.module.apply(trained.variables, method="threshold")
    if "TopK" in kind:
        arrays |= {"k": np.asarray(about["k"], np.int32)}
        unset = "Batch" not in kind or not trained.variables["stats"]["threshold_weight"]
        arrays["threshold"] = np.asarray(-1 if unset else threshold, np.float32)
    if kind == "JumpReluAutoEncoder":
        arrays["threshold"] = np.asarray(threshold, np.float32)
    if kind == "MatryoshkaBatchTopKSAE":
        arrays["group_sizes"] = np.diff([0, *cast(Matryoshka, trained.module).widths()])
    return arrays


def _shapes(kind: str, d_in: int, n_latents: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a class, without the tensors of whole numbers."""
    atoms = (n_latents, d_in)
    sizes = {"W_enc_FD": atoms, "W_dec_FD": atoms, "b_dec_D": (d_in,)}
    shapes = {key: sizes.get(leaf, (n_latents,)) for key, leaf in _CLASSES[kind][1].items()}
    turned = {key: shape[::-1] if key in _TURNED else shape for key, shape in shapes.items()}
    return turned | ({"threshold": ()} if "TopK" in kind else {})


def _fields(kind: str, state: _state.State, about: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the dictionary; whole numbers are taken from the file."""
    fields: dict[str, Any] = {"subtract_b_dec": kind not in _RAW}
    if "TopK" not in kind:
        return fields | {"sparsity": 0.0}  # not told
    k = state.whole("k")
    if [about.get("k", *k)] != k:
        raise ValueError(
            f"{CONFIG} says k={about['k']!r}, and {WEIGHTS} says {k}: make them agree."
        )
    if kind == "MatryoshkaBatchTopKSAE":
        fields["prefixes"] = tuple(itertools.accumulate(state.whole("group_sizes")))
    return fields | {"k": _foreign.integer({"k": k[0]}, "k")}


def _leaves(kind: str, arrays: Mapping[str, np.ndarray], noted: bool) -> dict[str, np.ndarray]:
    """The arrays of a file as leaves."""
    turned = {key: arrays[key].T if key in _TURNED else arrays[key] for key in _CLASSES[kind][1]}
    leaves = {f"params/{leaf}": turned[key] for key, leaf in _CLASSES[kind][1].items()}
    if kind == "AutoEncoder" and not noted:
        _foreign.unit_atoms(leaves)
    if kind == "JumpReluAutoEncoder" or ("Batch" in kind and noted):
        leaves[_note.THRESHOLD] = _foreign.log_threshold(arrays["threshold"])
    elif "Batch" in kind:
        known = arrays["threshold"] >= 0
        for leaf, mean in zip(_note.RUNNING, (arrays["threshold"] * known, known), strict=True):
            leaves[leaf] = np.asarray(mean, np.float32)
    return leaves


def _sites(told: Mapping[str, Any]) -> tuple[Site, ...]:
    about, buffer = told["trainer"], told.get("buffer")
    place = about.get("submodule_name")
    if not isinstance(place, str):
        return ()
    found = re.fullmatch(r"resid_post_layer_(\d+)", place)
    tap = f"resid.{found[1]}" if found else place
    length = buffer.get("ctx_len") if isinstance(buffer, dict) else None
    text = {} if length is None else {"sequence_length": length}
    return (Site({"name": about.get("lm_name")}, (tap,), (tap,), text),)


def _written(trained: Trained) -> dict[str, Any]:
    """config.json: the keys that the library's loader reads, and the site."""
    made = dictionaries.describe(trained.module)
    kind = _kind(trained, made)
    about = {"dict_class": kind, "activation_dim": made["d_in"], "dict_size": made["n_latents"]}
    about |= {"k": int(made["k"])} if "TopK" in kind else {}
    site = trained.sites[0] if len(trained.sites) == 1 else None
    if site is not None and len(site.tap) == 1:
        place, _, layer = site.tap[0].partition(".")
        name = f"resid_post_layer_{layer}" if place == "resid" else site.tap[0]
        about |= {"lm_name": site.model.get("name"), "submodule_name": name}
        about |= {"layer": int(layer)} if layer.isdecimal() else {}
    return {"trainer": about, "buffer": {}}


def _kind(trained: Trained, made: Mapping[str, Any]) -> str:
    """dict_class. Raises ValueError for a dictionary of no class."""
    name, kind = made["name"], made.get("activation")
    kinds = {ours: theirs for theirs, (ours, _) in reversed(_CLASSES.items())}
    if name not in kinds or kind not in kinds:
        raise ValueError(f"dictionary_learning has no class for {name} with {kind}.")
    _foreign.check_raw(trained)
    if made["d_out"] is not None:
        raise ValueError(f"dictionary_learning has only autoencoders; this {name} is a transcoder.")
    _foreign.check_plain(made, "dictionary_learning")
    if "k" in made and made["k"] != int(made["k"]):
        raise ValueError(f"dictionary_learning's k is a whole number, not {made['k']} of {name}.")
    found = "AutoEncoderNew" if kind == "relu" and not made["subtract_b_dec"] else kinds[kind]
    if made["subtract_b_dec"] == (found in _RAW):
        does = "subtracts" if made["subtract_b_dec"] else "does not subtract"
        raise ValueError(f"this {name} {does} b_dec, unlike {found} of dictionary_learning.")
    return kinds[name] if found == "BatchTopKSAE" else found
