"""Cross-layer transcoders by their layers: latent j of layer l is latent j L + l of ours."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from dictlearn import dictionaries
from dictlearn.dictionaries.clt import CLT
from dictlearn.interop import _foreign, _note
from dictlearn.runs.trained import Trained
from dictlearn.types import Dictionary

MOST_LAYERS = 512
LEAVES = {
    *("params/W_enc_FD", "params/b_enc_F", "params/b_dec_D"),
    *(_note.THRESHOLD, *_note.RUNNING),
    *(f"params/W_dec_{layer}_FD" for layer in range(MOST_LAYERS)),
}


def joined(
    layers: Sequence[Mapping[str, np.ndarray]], **fields: Any
) -> tuple[Dictionary, dict[str, np.ndarray]]:
    """(module, leaves) of the arrays of each layer: W_enc [F, D], b_enc, b_dec, W_dec [F, L - l, D] and, for a
    JumpReLU, threshold. `fields` are of the dictionary, in place of those of a JumpReLU or a ReLU."""
    n, (each, d_in) = len(layers), layers[0]["W_enc"].shape
    woven = lambda key: np.stack([one[key] for one in layers], axis=1)
    leaves = {
        "params/W_enc_FD": woven("W_enc").reshape(-1, d_in),
        "params/b_enc_F": woven("b_enc").reshape(-1),
        "params/b_dec_D": np.concatenate([one["b_dec"] for one in layers]),
    }
    for layer, one in enumerate(layers):
        leaves[f"params/W_dec_{layer}_FD"] = one["W_dec"].reshape(each, -1)
    kind = "jumprelu" if "threshold" in layers[0] else "relu"
    if kind == "jumprelu":
        leaves[_note.THRESHOLD] = _foreign.log_threshold(woven("threshold").reshape(-1))
    sizes = {"d_in": n * d_in, "d_out": n * d_in, "n_latents": n * each, "sources": n}
    fields = fields or {"activation": kind, "sparsity": 0.0}
    return dictionaries.make("clt", **fields, **sizes), leaves


def parted(trained: Trained) -> list[dict[str, np.ndarray]]:
    """The arrays of each layer, in float32; the inverse of `joined`."""
    leaves = {k: np.array(leaf, np.float32) for k, leaf in _foreign.leaves(trained).items()}
    n = cast(CLT, trained.module).sources
    woven = {"W_enc": leaves["params/W_enc_FD"], "b_enc": leaves["params/b_enc_F"]}
    if (threshold_F := _foreign.thresholds(trained)) is not None:
        woven["threshold"] = threshold_F
    biases = leaves["params/b_dec_D"].reshape(n, -1)
    layers = []
    for layer in range(n):
        arrays = {key: array[layer::n].copy() for key, array in woven.items()}
        decoder = leaves[f"params/W_dec_{layer}_FD"].reshape(-1, n - layer, biases.shape[1])
        layers.append(arrays | {"b_dec": biases[layer].copy(), "W_dec": decoder})
    return layers
