"""The local replacement model of one prompt: its active latents, its errors, and what each reads and writes.

    a_i = <r_i, x> + b_i                            an active latent reads a direction of one layer and position
    y_l = sum_i a_i d_il + x_l W_l^T + c_l + e_l    an MLP's output is latents, a skip, a constant and an error

Latents and errors of the first tokens are left out (as a rule only of the marker of a text's beginning): their
activations are unlike all others.

Source: Ameisen et al. 2025, "Circuit tracing", local replacement model; circuit-tracer's `setup_attribution`.

Axes: T positions, L layers of the model, N active latents, D the width of the residual stream.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from dictlearn import normalise
from dictlearn.circuits import _directions
from dictlearn.circuits._places import WRITES, Place, places
from dictlearn.lm import decoder
from dictlearn.lm.model import LM
from dictlearn.lm.spec import Params, Spec
from dictlearn.runs.trained import Trained, reconstruct
from dictlearn.types import Codes

_CLOSE = 1e-2
"""The relative difference from which on the weights of a dictionary do not say what it computes."""


@dataclass(frozen=True, eq=False)
class Local:
    """The local replacement model.

    Args:
        lm: the language model.
        read: the tap that the dictionaries read, without its layer.
        tokens_T: the tokens.
        latents_N3: (layer, position, latent) of every active latent, in this order.
        values_N: their activations a.
        rows_ND: their directions r.
        atoms: by written layer, (the indices of the latents that write it, d of each).
        errors_LTD: e.
        skips: W of each layer with a skip, `[D, D]`.
        embed_TD: the embeddings of the tokens, without positions.
        logits_V: the logits after the last token.
        held: the attention patterns, the denominators and the outputs of the MLPs, as `decoder.constants`.
        reads_LTD: what stands at the read tap of every layer.
        places: the dictionaries with their layers.
    """

    lm: LM
    read: str
    tokens_T: np.ndarray
    latents_N3: np.ndarray
    values_N: np.ndarray
    rows_ND: np.ndarray
    atoms: Mapping[int, tuple[np.ndarray, np.ndarray]]
    errors_LTD: np.ndarray
    skips: Mapping[int, np.ndarray]
    embed_TD: np.ndarray
    logits_V: np.ndarray
    held: Mapping[str, jax.Array]
    reads_LTD: np.ndarray
    places: Sequence[Place]


def local(
    lm: LM, dictionaries: Sequence[Trained], tokens_T: Int[np.ndarray, " T"], n_ignored: int = 1
) -> Local:
    """The local replacement model of a prompt.

    Args:
        lm: the language model.
        dictionaries: transcoders of its MLPs, one at most for a layer, or a cross-layer transcoder. The output
            of a layer without one is all error.
        tokens_T: the tokens.
        n_ignored: the first tokens whose latents and errors are left out.

    Returns:
        Local.

    Raises:
        ValueError: for a model that is no decoder, for tokens that it does not have, for dictionaries that are
            no transcoders of MLPs, and for one whose latents do not read a fixed direction each.
    """
    tokens_T = np.asarray(tokens_T, np.int32)
    _check_tokens(lm, tokens_T, n_ignored)
    read, found = places(lm, dictionaries)
    taps, logits_V, held = run(lm.spec, lm.params, jnp.asarray(tokens_T[None]))
    errors_LTD = _stacked(taps, WRITES)
    errors_LTD = errors_LTD.astype(np.promote_types(errors_LTD.dtype, np.float32))
    parts = [_coded(read, place, taps, errors_LTD, n_ignored) for place in found]
    errors_LTD[:, :n_ignored] = 0
    order, atoms = _joined(parts)
    join = lambda arrays: np.concatenate(list(arrays))[order]
    return Local(
        lm=lm,
        read=read,
        tokens_T=tokens_T,
        latents_N3=join(part.latents_N3 for part in parts),
        values_N=join(part.values_N for part in parts),
        rows_ND=join(part.rows_ND for part in parts),
        atoms=atoms,
        errors_LTD=errors_LTD,
        skips={layer: skip for part in parts for layer, skip in part.skips.items()},
        embed_TD=_embedded(lm, taps),
        logits_V=np.asarray(logits_V),
        held=held,
        reads_LTD=_stacked(taps, read),
        places=found,
    )


def _check_tokens(lm: LM, tokens_T: np.ndarray, n_ignored: int) -> None:
    if tokens_T.ndim != 1 or len(tokens_T) <= n_ignored or n_ignored < 0:
        raise ValueError(
            f"{tokens_T.shape} tokens with {n_ignored=}; a prompt has more tokens than are ignored."
        )
    lm.check_tokens(tokens_T, "The prompt")


def _stacked(taps: Mapping[str, jax.Array], name: str) -> np.ndarray:
    """The activations at a tap of every layer."""
    n_layers = sum(tap.startswith(f"{name}.") for tap in taps)
    return np.stack([np.asarray(taps[f"{name}.{layer}"]) for layer in range(n_layers)])


def _embedded(lm: LM, taps: Mapping[str, jax.Array]) -> np.ndarray:
    """The embeddings of the tokens without their positions."""
    embed_TD = np.asarray(taps["embed"])
    if not lm.spec.positions:
        return embed_TD
    return embed_TD - np.asarray(lm.params["position_TD"][: len(embed_TD)])


@functools.partial(jax.jit, static_argnums=0)
def run(
    spec: Spec, params: Params, tokens_1T: Int[Array | np.ndarray, "1 T"]
) -> tuple[dict[str, jax.Array], jax.Array, dict[str, jax.Array]]:
    """The forward pass of a prompt.

    Args:
        spec: the hyperparameters.
        params: the parameters.
        tokens_1T: the prompt.

    Returns:
        (its taps, the logits after its last token, what can be held as in `decoder.constants`).
    """
    logits_1TV, taps, held = decoder.constants(spec, params, tokens_1T)
    return {name: tap[0] for name, tap in taps.items()}, logits_1TV[0, -1], held


@dataclass(frozen=True, eq=False)
class _Part:
    """The active latents of one dictionary. atoms: by written layer, (indices, d)."""

    latents_N3: np.ndarray
    values_N: np.ndarray
    rows_ND: np.ndarray
    atoms: Mapping[int, tuple[np.ndarray, np.ndarray]]
    skips: Mapping[int, np.ndarray]


def _coded(read: str, place: Place, taps, errors_LTD: np.ndarray, n_ignored: int) -> _Part:
    """The part of a dictionary, whose reconstruction is subtracted from the errors of its layers."""
    one, layers = place
    length, width = errors_LTD.shape[1:]
    wide = jnp.promote_types(errors_LTD.dtype, jnp.float32)
    x_TE = jnp.concatenate([taps[f"{read}.{layer}"] for layer in layers], axis=-1).astype(wide)
    codes, y_TE, slope_TE = _encoded(one.module, one.norm, one.variables, x_TE)
    y_TLD = np.asarray(y_TE).reshape(length, len(layers), width)
    for at, layer in enumerate(layers):
        errors_LTD[layer] -= y_TLD[:, at]
    position_N, latent_N, values_N = _active(codes, n_ignored)
    at_N = latent_N % len(layers)
    rows_ND = _directions.rows(one, latent_N, len(layers), width)
    slope_TLD = np.asarray(slope_TE).reshape(y_TLD.shape)[n_ignored:]
    _check_rows(one, rows_ND, latent_N, (position_N - n_ignored, at_N), slope_TLD)
    atoms_NLD, atoms = _directions.atoms(one, latent_N, len(layers), width), {}
    for at, layer in enumerate(layers):
        own = np.flatnonzero(at_N <= at)
        atoms[layer] = own, atoms_NLD[own, at]
    latents_N3 = np.stack([np.asarray(layers)[at_N], position_N, latent_N], axis=1)
    return _Part(latents_N3, values_N, rows_ND, atoms, _directions.skips(one, layers, width))


@functools.partial(jax.jit, static_argnums=0)
def _encoded(module, norm, variables, x_TE) -> tuple[Codes, jax.Array, jax.Array]:
    """(codes, reconstructions, the gradient of the sum of the active latents, each times its `_sign`)."""

    def encode(x_TE):
        codes = module.apply(
            variables, jnp.asarray(normalise.forward(norm, x_TE)[0]), method="encode"
        )
        return codes.val, codes.idx_BK

    val, pull, idx_TK = jax.vjp(encode, x_TE, has_aux=True)
    latents = jnp.arange(val.shape[1]) if idx_TK is None else idx_TK
    signs = jnp.broadcast_to(_sign(latents), val.shape).astype(val.dtype)
    (slope_TE,) = pull(jnp.where(val != 0, signs, 0))
    return Codes(val, idx_TK), reconstruct(module, norm, variables, x_TE)[0], slope_TE


def _sign(latent, cos=jnp.cos):
    return cos(1.0 + latent)


def _active(codes: Codes, n_ignored: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(positions, latents, values) of what is active after the first tokens."""
    val = np.array(codes.val)
    val[:n_ignored] = 0
    position_N, column_N = np.nonzero(val)
    found = codes.idx_BK
    latent_N = column_N if found is None else np.asarray(found)[position_N, column_N]
    return position_N, latent_N, val[position_N, column_N]


def _check_rows(one: Trained, rows_ND, latent_N, at: tuple, slope_TLD: np.ndarray) -> None:
    """Raises ValueError where the rows are not the gradients of the active latents."""
    found_TLD = np.zeros(slope_TLD.shape, rows_ND.dtype)
    np.add.at(found_TLD, at, _sign(latent_N, np.cos)[:, None] * rows_ND)
    size = float(np.abs(slope_TLD).max(initial=0))
    if float(np.abs(found_TLD - slope_TLD).max(initial=0)) > _CLOSE * size:
        raise ValueError(
            f"The active latents of {one.name!r} are not <x, W_enc> + b_enc, so a graph cannot say what they "
            "read. Those of ReLU, TopK, BatchTopK and JumpReLU transcoders are."
        )


def _joined(parts: Sequence[_Part]):
    """(the order of the latents of all parts, the atoms of each layer by that order)."""
    latents_N3 = np.concatenate([part.latents_N3 for part in parts])
    order = np.lexsort(latents_N3.T[::-1])
    place = np.argsort(order)
    starts = np.cumsum([0, *(len(part.values_N) for part in parts)])
    atoms = {}
    for start, part in zip(starts[:-1], parts, strict=True):
        for layer, (own, atoms_ND) in part.atoms.items():
            atoms[layer] = place[start + own], atoms_ND
    return order, atoms
