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
SKIP = "params/W_skip_DD"
LEAVES = {
    *("params/W_enc_FD", "params/b_enc_F", "params/b_dec_D"),
    *(_note.THRESHOLD, *_note.RUNNING),
    *(f"params/W_dec_{layer}_FD" for layer in range(MOST_LAYERS)),
}


def joined(
    layers: Sequence[Mapping[str, np.ndarray]], **fields: Any
) -> tuple[Dictionary, dict[str, np.ndarray]]:
    """(module, leaves) of the arrays of each layer: W_enc [F, D], b_enc, b_dec, W_dec [F, L - l, D], for a
    JumpReLU threshold, and W_skip [D, D] where there is one from each layer to its own target. `fields` are of
    the dictionary, in place of the fields of a JumpReLU or a ReLU."""
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
    if "W_skip" in layers[0]:
        leaves[SKIP], fields["skip"] = _diagonal([one["W_skip"] for one in layers]), True
    return dictionaries.make("clt", **fields, **sizes), leaves


def parted(trained: Trained) -> list[dict[str, np.ndarray]]:
    """The arrays of each layer, in float32; the inverse of `joined`."""
    leaves = {k: np.array(leaf, np.float32) for k, leaf in _foreign.leaves(trained).items()}
    n = cast(CLT, trained.module).sources
    woven = {"W_enc": leaves["params/W_enc_FD"], "b_enc": leaves["params/b_enc_F"]}
    if (threshold_F := _foreign.thresholds(trained)) is not None:
        woven["threshold"] = threshold_F
    biases = leaves["params/b_dec_D"].reshape(n, -1)
    skips = _blocks(leaves[SKIP], n) if SKIP in leaves else ()
    layers = []
    for layer in range(n):
        arrays = {key: array[layer::n].copy() for key, array in woven.items()}
        decoder = leaves[f"params/W_dec_{layer}_FD"].reshape(-1, n - layer, biases.shape[1])
        arrays |= {"W_skip": skips[layer]} if len(skips) else {}
        layers.append(arrays | {"b_dec": biases[layer].copy(), "W_dec": decoder})
    return layers


def _diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """The matrix with these blocks [D, D] on its diagonal."""
    n, width = len(blocks), len(blocks[0])
    whole = np.zeros((n, width, n, width), np.float32)
    for i, block in enumerate(blocks):
        whole[i, :, i] = block
    return whole.reshape(n * width, -1)


def _blocks(W_skip_DD: np.ndarray, n: int) -> np.ndarray:
    """The n blocks [D, D] on the diagonal. Raises ValueError for entries elsewhere."""
    parts = W_skip_DD.reshape(n, len(W_skip_DD) // n, n, -1)
    blocks = np.stack([parts[i, :, i] for i in range(n)])
    if np.count_nonzero(blocks) < np.count_nonzero(W_skip_DD):
        raise ValueError("W_skip_DD of clt reads other layers than the layer that it writes to.")
    return blocks
