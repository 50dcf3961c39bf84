"""The direct effect of latents on the logits: (w_i * g) U for the atom w_i.

g is the gain of the model's last norm, and U its unembedding. The division of the norm, and every layer after
the tap, are left out. Only taps that write to the residual stream have it.

Axes: I a chosen latent, K the most extreme tokens; the others as in `dictlearn.types`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dictlearn.analyses._passages import readable
from dictlearn.lm import LM

_STREAM_TAPS = ("embed", "resid", "resid_mid", "attn_out", "mlp_out")
_BLOCK = 1 << 23
"""Logits that are held at once, at most."""


class Effects(NamedTuple):
    """The tokens whose logits each latent raises and lowers most, the most extreme first, with the weights.
    count_IN: the number of tokens in bins of equal width from the lowest weight to the highest."""

    top_IK: np.ndarray
    top_weight_IK: np.ndarray
    bottom_IK: np.ndarray
    bottom_weight_IK: np.ndarray
    count_IN: np.ndarray


def writes_to_stream(taps: Sequence[str]) -> bool:
    """Whether an atom at these taps is a vector of the residual stream."""
    return len(taps) == 1 and taps[0].split(".")[0] in _STREAM_TAPS


def direct(lm: LM, atoms_ID: np.ndarray, n: int, bins: int = 50) -> Effects:
    """The direct effect of atoms of the residual stream.

    Args:
        lm: the language model.
        atoms_ID: the atoms.
        n: the number of tokens on either side.
        bins: the number of bins of the histogram.

    Returns:
        Effects, for an activation of 1.
    """
    params = lm.params
    unembed_DV = np.asarray(params["embed_VD"]).T if lm.spec.tied else params["unembed_DV"]
    unembed_DV = np.asarray(params["norm_D"], np.float32)[:, None] * np.asarray(unembed_DV)
    each = max(1, _BLOCK // unembed_DV.shape[1])
    parts = [
        _effects(atoms_ID[start : start + each].astype(np.float32) @ unembed_DV, n, bins)
        for start in range(0, len(atoms_ID), each)
    ]
    return Effects(*map(np.concatenate, zip(*parts, strict=True)))


def named(lm: LM, token_K: np.ndarray, weight_K: np.ndarray) -> list[tuple[str, float]]:
    """(text, weight) of tokens."""
    pairs = zip(token_K.tolist(), weight_K.tolist(), strict=True)
    return [(readable(lm.tokenizer, token), weight) for token, weight in pairs]


def _effects(logits_IV: np.ndarray, n: int, bins: int) -> Effects:
    ends = [ends for part in (_largest(logits_IV, n), _largest(-logits_IV, n)) for ends in part]
    low_I, high_I = ends[3][:, :1] * -1, ends[1][:, :1]
    scale_I = bins / np.maximum(high_I - low_I, np.finfo(np.float32).tiny)
    bin_IV = np.clip((logits_IV - low_I) * scale_I, 0, bins - 1).astype(np.int32)
    bin_IV += bins * np.arange(len(bin_IV), dtype=np.int32)[:, None]
    count_IN = np.bincount(bin_IV.ravel(), minlength=bins * len(bin_IV)).reshape(-1, bins)
    return Effects(ends[0], ends[1], ends[2], -ends[3], count_IN)


def _largest(value_IV: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, values) of the `n` largest values of each row, the largest first."""
    n = min(n, value_IV.shape[1])
    some = np.sort(np.argpartition(value_IV, -n, axis=1)[:, -n:], axis=1)
    order = np.argsort(-np.take_along_axis(value_IV, some, 1), axis=1, kind="stable")
    token_IK = np.take_along_axis(some, order, 1)
    return token_IK, np.take_along_axis(value_IV, token_IK, 1)
