"""What the latents of transcoders read and write in raw activations, by the names of their leaves.

`W_enc_FD` has a row for each latent, as wide as one layer; `W_dec_FD` an atom for each. A cross-layer
transcoder has `W_dec_m_FD` for the latents m, m + L, ... of layer m instead, as wide as the layers from m on.
`W_skip_DD` is [written, read]. The scales of the normalisation are those of all layers, or of each.
"""

import numpy as np

from dictlearn.normalise import SCALAR_KINDS, Norm
from dictlearn.runs.atoms import atoms_of
from dictlearn.runs.trained import Trained

_FILL = 64
"""Latents are looked up in multiples of it, so that prompts share programs."""


def _filled(latent_N: np.ndarray) -> np.ndarray:
    return np.resize(latent_N, -(-len(latent_N) // _FILL) * _FILL)


def _scales(norm: Norm, n_layers: int) -> tuple[np.ndarray, np.ndarray]:
    """The scales of the inputs and the targets of each layer, float64."""
    if norm.kind not in SCALAR_KINDS:
        raise ValueError(
            f"{norm.kind} is no scale; a graph needs one of {', '.join(SCALAR_KINDS)}."
        )
    wide = lambda scale: np.broadcast_to(np.asarray(scale, np.float64), (n_layers,))
    return wide(norm.scale_in), wide(norm.scale_out)


def rows(one: Trained, latent_N: np.ndarray, n_layers: int, width: int) -> np.ndarray:
    """The direction that each latent reads at its layer, `[N, D]`. Raises ValueError for a dictionary whose
    latents read no direction of one layer."""
    leaf = one.variables["params"].get("W_enc_FD")
    if leaf is None or leaf.shape[1] != width:
        raise ValueError(
            f"{one.name!r} has no encoder row of width {width} for each latent: a graph needs transcoders "
            "whose latents read one layer each."
        )
    scale_L, _ = _scales(one.norm, n_layers)
    rows_ND = np.asarray(leaf[_filled(latent_N)])[: len(latent_N)]
    return (rows_ND * scale_L[latent_N % n_layers, None]).astype(rows_ND.dtype)


def atoms(one: Trained, latent_N: np.ndarray, n_layers: int, width: int) -> np.ndarray:
    """What each latent adds to every layer at an activation of 1, `[N, L, D]`."""
    params = one.variables["params"]
    if n_layers == 1:
        if not len(latent_N):
            return np.zeros((0, 1, width), "f4")
        return atoms_of(one, _filled(latent_N).tolist())[: len(latent_N), None]
    found = np.zeros((len(latent_N), n_layers, width), params["W_enc_FD"].dtype)
    for layer in range(n_layers):
        own = np.flatnonzero(latent_N % n_layers == layer)
        leaf = params[f"W_dec_{layer}_FD"][latent_N[own] // n_layers]
        found[own, layer:] = np.asarray(leaf).reshape(len(own), n_layers - layer, width)
    _, scale_L = _scales(one.norm, n_layers)
    return (found / scale_L[:, None]).astype(found.dtype)


def skips(one: Trained, layers: tuple[int, ...], width: int) -> dict[int, np.ndarray]:
    """W_skip of each layer, where there is one. Raises ValueError for a skip from one layer to another."""
    leaf = one.variables["params"].get("W_skip_DD")
    if leaf is None:
        return {}
    n = len(layers)
    in_L, out_L = _scales(one.norm, n)
    blocks = np.asarray(leaf).reshape(n, width, n, width).transpose(0, 2, 1, 3)
    if any(blocks[a, b].any() for a in range(n) for b in range(n) if a != b):
        raise ValueError(f"The skip of {one.name!r} reads other layers than it writes.")
    return {
        layer: (blocks[at, at] * (in_L[at] / out_L[at])).astype(leaf.dtype)
        for at, layer in enumerate(layers)
    }
