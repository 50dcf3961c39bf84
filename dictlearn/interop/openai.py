"""openai's sparse_autoencoder files (`.pt`): a torch state dict of TopK or ReLU.

    f = activation((x - pre_bias) encoder.weight^T + latent_bias)      y = f decoder.weight^T + pre_bias

encoder.weight is [F, D] and decoder.weight [D, F]. A TopK reads (x - mean) / deviation of each token, and
restores both in its output. It is read as our `token_layernorm`; their deviation divides by D - 1, and this
factor is moved into the weights. Everything that the library has no key for is one more entry of the archive,
which torch ignores.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import dictionaries
from dictlearn.interop import _foreign, _note, _state, _torch_file, _torch_write
from dictlearn.normalise import Norm
from dictlearn.runs.trained import Trained

SUFFIX = ".pt"
_LEAVES = {
    "encoder.weight": "params/W_enc_FD",
    "latent_bias": "params/b_enc_F",
    "decoder.weight": "params/W_dec_FD",
    "pre_bias": "params/b_dec_D",
}
LEAVES = set(_LEAVES.values())
_COUNTS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
_ACTIVATION = ("activation", "activation_state_dict", "activation.k", "activation.postact_fn")
"""The last two are in the library's own `state_dict`, but not in the published files."""
_KINDS = {"ReLU": "relu", "TopK": "topk"}
_STRUCTURES = {*_KINDS.values(), "matryoshka"}


def recognises(path: Path) -> bool:
    """Whether a path is a torch file with these tensors.

    Args:
        path: a file or a folder.

    Returns:
        True if it is.
    """
    return _state.holds(path, _LEAVES)


def load(path: Path) -> Trained:
    """Loads the dictionary in the file.

    Args:
        path: the file.

    Returns:
        A Trained.

    Raises:
        ValueError: for a key or a tensor that cannot be read, naming it.
    """
    state = _state.read(path)
    n_latents, d_in = state.matrix("encoder.weight")
    kind = _foreign.one_of(state.found, "activation", _KINDS, "ReLU")
    fields: dict[str, Any] = {"k": _k(state)} if kind == "TopK" else {"sparsity": 0.0}
    for key in {*_ACTIVATION, *_COUNTS} & state.found.keys():
        state.take(key)
    sizes = {"encoder.weight": (n_latents, d_in), "latent_bias": (n_latents,)}
    sizes |= {"decoder.weight": (d_in, n_latents), "pre_bias": (d_in,)}
    arrays = state.arrays(sizes)
    arrays["decoder.weight"] = np.ascontiguousarray(arrays["decoder.weight"].T)
    norm = Norm()
    if kind == "TopK":
        norm = Norm("token_layernorm")
        arrays = _scaled(arrays, ((d_in - 1) / d_in) ** 0.5)
    module = dictionaries.make(_KINDS[kind], d_in=d_in, n_latents=n_latents, **fields)
    leaves = {_LEAVES[key]: array for key, array in arrays.items()}
    return _note.noted(_torch_file.note(path), module, leaves, norm=norm, name=path.stem)


def save(trained: Trained, path: Path) -> None:
    """Writes a file.

    Args:
        trained: the dictionary.
        path: where to write.

    Raises:
        ValueError: for a dictionary with an activation that the library does not have.
    """
    made = dictionaries.describe(trained.module)
    kind = _kind(trained, made)
    leaves = _foreign.leaves(trained)
    arrays = {key: np.asarray(leaves[leaf], np.float32) for key, leaf in _LEAVES.items()}
    if kind == "TopK":
        arrays = _scaled(arrays, (made["d_in"] / (made["d_in"] - 1)) ** 0.5)
    arrays["decoder.weight"] = arrays["decoder.weight"].T
    state: dict[str, Any] = {**arrays, **_counts(made["n_latents"]), "activation": kind}
    state["activation_state_dict"] = (
        {"k": int(made["k"]), "postact_fn": "ReLU"} if kind == "TopK" else {}
    )
    _torch_write.write(path, state, _note.note(trained))


def _k(state: _state.State) -> int:
    """k, from the state of the activation."""
    told = state.found.get("activation_state_dict")
    told = told if isinstance(told, dict) else {}
    _foreign.one_of(told, "postact_fn", ("ReLU",), "ReLU")
    return _foreign.integer(told, "k")


def _scaled(arrays: Mapping[str, np.ndarray], factor: float) -> dict[str, np.ndarray]:
    """The same function for an input that is `factor` times smaller; its output is smaller by the same
    factor."""
    by = {"encoder.weight": factor, "decoder.weight": 1 / factor, "pre_bias": 1 / factor}
    return {key: (array * by.get(key, 1)).astype(np.float32) for key, array in arrays.items()}


def _counts(n_latents: int) -> dict[str, np.ndarray]:
    """The initial values of the statistics that its loader requires."""
    start = np.zeros(n_latents, np.int64), np.ones(n_latents, "f4"), np.zeros(n_latents, "f4")
    return dict(zip(_COUNTS, start, strict=True))


def _kind(trained: Trained, made: Mapping[str, Any]) -> str:
    """The name of the activation. Raises ValueError if the library has none for the dictionary."""
    kinds = {ours: theirs for theirs, ours in _KINDS.items()}
    name, kind = made["name"], made.get("activation")
    if kind not in kinds or name not in _STRUCTURES:
        raise ValueError(f"openai's files have no activation for {name} with {kind}.")
    if made["d_out"] is not None or not made["subtract_b_dec"]:
        raise ValueError(
            f"openai's files are autoencoders that subtract b_dec; this {name} is not."
        )
    _foreign.check_plain(made, "openai's format")
    wanted = Norm("token_layernorm") if kind == "topk" else Norm()
    if trained.norm != wanted:
        raise ValueError(
            f"openai's {kinds[kind]} works under {wanted.kind}, and this {name} under {trained.norm.kind}."
        )
    return kinds[kind]
