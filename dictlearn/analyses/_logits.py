"""The direct effect of latents on the logits: (w_i * g) U for the atom w_i in the residual stream.

g is the gain of the model's last norm, and U its unembedding. The division of the norm, and every layer after
the tap, are left out. Only taps that write to the residual stream have it, and those that a matrix takes there:
the heads' outputs (W_o) and the neurons (W_down).

Axes: I a chosen latent, K the most extreme tokens; the others as in `dictlearn.types`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dictlearn.analyses._passages import readable
from dictlearn.lm import LM
from dictlearn.lm.spec import Spec
from dictlearn.runs.trained import Trained

_STREAM_TAPS = ("embed", "resid", "resid_mid", "attn_out", "mlp_out")
_MATRICES = {"attn_z": "W_o_HD", "mlp_act": "W_down_MD"}
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


def in_stream(lm: LM, taps: Sequence[str], atoms_ID: np.ndarray) -> np.ndarray | None:
    """What atoms at these taps add to the residual stream.

    Args:
        lm: the language model.
        taps: the taps that the atoms are vectors of, concatenated.
        atoms_ID: the atoms.

    Returns:
        Vectors of the residual stream; None for several taps, for a model that is no decoder, and where a norm
        or another function lies between.
    """
    name, _, layer = taps[0].partition(".") if len(taps) == 1 else ("", "", "")
    if not isinstance(lm.spec, Spec):
        return None
    if name in _STREAM_TAPS:
        return atoms_ID
    if name not in _MATRICES or lm.spec.post_norms:
        return None
    return atoms_ID @ np.asarray(lm.params[f"block_{layer}"][_MATRICES[name]], np.float32)


def of_latents(
    dictionary: Trained, lm: LM, taps: Sequence[str], latents: Sequence[int]
) -> np.ndarray | None:
    """The decoder rows of latents in the residual stream, in units of the normalised activations; None for a
    dictionary without `W_dec_FD`, and where `in_stream` is None."""
    atoms_FD = dictionary.variables["params"].get("W_dec_FD")
    chosen = None if atoms_FD is None else np.asarray(atoms_FD)[list(latents)]
    return None if chosen is None else in_stream(lm, taps, chosen)


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
    return extremes(atoms_ID, unembed_DV, n, bins)


def extremes(rows_ID: np.ndarray, token_DV: np.ndarray, n: int, bins: int = 50) -> Effects:
    """The tokens with the largest and the smallest products with each row.

    Args:
        rows_ID: the rows.
        token_DV: a vector of each token.
        n, bins: as in `direct`.

    Returns:
        Effects, of which a weight is the product of a row and a token.
    """
    each = max(1, _BLOCK // token_DV.shape[1])
    parts = [
        _effects(rows_ID[start : start + each].astype(np.float32) @ token_DV, n, bins)
        for start in range(0, len(rows_ID), each)
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
