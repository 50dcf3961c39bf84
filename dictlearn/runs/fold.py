"""Folding: the same function with fewer steps around it. Raw activations in and out; atoms of unit norm.

A leaf is scaled as its name says (docs/design.md): `b_*` and `threshold*` live where the input does, a
`log_threshold*` is the logarithm of one, `W_enc*` reads the input, `W_dec*` writes the target, `W_skip*` does
both; all else stays.
With s = scale_in and r = scale_out, as in Llama Scope (He et al. 2024):

    scalar    b / s    threshold / s    W_dec s / r    W_skip s / r    b_dec / r
    whiten    W_enc W    W_dec W^-T    b_dec W^-T + mu    (codes, biases and thresholds stay)

The scalar form scales the codes by 1/s: it is exact wherever f(c x) = c f(x) once biases and thresholds are
scaled along, which a variant that is otherwise denies by `foldable = False`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dictlearn import normalise
from dictlearn.normalise import Norm


def raw(norm: Norm, module, variables: Mapping[str, Any]) -> dict:
    """`variables` with which `module` reads raw inputs and writes raw targets; no leading axis N.

    Raises ValueError for the per-token kinds, which no weights can absorb, for scales of several sources,
    for a variant that is not foldable, and for whitening where there is no encoder to put it into."""
    if norm.kind in normalise.TOKEN_KINDS:
        raise ValueError(
            f"{norm.kind} divides every token by its own statistics and cannot be folded into "
            "weights; call normalise.forward around the dictionary instead."
        )
    if norm.kind == "none":
        return dict(variables)
    if norm.by_source:
        raise ValueError(
            f"{norm.kind} has a scale for each source, and atoms scaled by parts rank otherwise: it cannot "
            "be folded; call normalise.forward around the dictionary instead."
        )
    if not module.foldable:
        raise ValueError(
            f"{type(module).__name__} is not the same function at another scale of its input, so "
            f"{norm.kind} cannot be folded; call normalise.forward around it instead."
        )
    if norm.kind != "whiten":
        return _renamed(variables, _scaled(norm))
    if "W_enc_FD" not in variables["params"]:
        raise ValueError(
            f"{type(module).__name__} reads with the atoms that it writes with, and whitening makes two of "
            "each: it cannot be folded; call normalise.forward around the dictionary instead."
        )
    return _renamed(variables, _whitened(norm, module))


def unit_atoms(variables: Mapping[str, Any]) -> dict:
    """The same function with rows of W_dec_FD of unit norm n_i: W_enc, b_enc and thresholds times n_i.

    Exact for ReLU, JumpReLU and any selection weighted by the atoms' norms; another TopK selects anew."""
    norm_F = jnp.linalg.norm(variables["params"]["W_dec_FD"], axis=1)
    norm_F = jnp.where(norm_F > 0, norm_F, 1)
    over = lambda leaf: norm_F.reshape((-1,) + (1,) * (leaf.ndim - 1))

    def one(base: str, leaf):
        if base == "W_dec":
            return leaf / over(leaf)
        if base.startswith("log_threshold"):
            return leaf + jnp.log(norm_F)
        if base in ("W_enc", "b_enc", "b_gate", "b_mag") or base.startswith("threshold"):
            return leaf * over(leaf) if leaf.ndim else leaf
        return leaf

    return _renamed(variables, one)


def _scaled(norm: Norm) -> Callable:
    s, r = float(norm.scale_in), float(norm.scale_out)

    def one(base: str, leaf):
        if base.startswith(("W_dec", "W_skip")):
            return leaf * (s / r)
        if base == "b_dec":
            return leaf / r
        if base.startswith("log_threshold"):
            return leaf - math.log(s)
        # The weight of a running mean counts batches; it has no scale.
        if base.startswith(("b_", "threshold")) and base != "threshold_weight":
            return leaf / s
        return leaf

    return one


def _whitened(norm: Norm, module) -> Callable:
    inverse_DD = normalise.colouring(norm)

    def one(base: str, leaf):
        if base == "W_enc":
            return leaf @ norm.matrix_DD
        if base == "W_dec":
            return leaf @ inverse_DD.T
        if base == "b_dec":
            return leaf @ inverse_DD.T + norm.mean_D
        if leaf.ndim > 1:
            name = type(module).__name__
            raise ValueError(f"whitening cannot be folded into {base} of {name}.")
        return leaf

    return one


def _renamed(variables: Mapping[str, Any], one: Callable) -> dict:
    """`one(base name, leaf)` for every leaf; the base name is what stands before the axis letters."""

    def each(path, leaf):
        base, _, letters = path[-1].key.rpartition("_")
        return one(base if base and letters.isupper() else path[-1].key, leaf)

    return jax.tree_util.tree_map_with_path(each, dict(variables))
