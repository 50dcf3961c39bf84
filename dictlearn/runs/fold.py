"""Folds the input normalisation, or the decoder norms, into the weights.

The name of a leaf says how it is scaled (docs/design.md). `b_*` and `threshold*` are on the scale of the input;
`log_threshold*` is the logarithm of such a value. `W_enc*` reads the input, `W_dec*` writes the target,
`W_skip*` does both; all other leaves are unchanged. With s = scale_in and r = scale_out,

    scalar    b / s    threshold / s    W_dec s / r    W_skip s / r    b_dec / r
    affine    W_enc W    W_dec W^-T    b_dec W^-T + mu    (codes, biases and thresholds are unchanged)

The scalar form scales the codes by 1/s. It is exact where f(c x) = c f(x) once biases and thresholds are
scaled too; a variant for which this does not hold has `foldable = False`.

Source: Llama Scope (He et al. 2024, arXiv:2410.20526).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dictlearn import normalise
from dictlearn.normalise import Norm

__all__ = ["fold_decoder_norm", "fold_normalisation"]


def fold_normalisation(norm: Norm, module, variables: Mapping[str, Any]) -> dict:
    """Folds a normalisation into the weights of a dictionary.

    Args:
        norm: the normalisation of its inputs and targets.
        module: the dictionary.
        variables: its variables, without a leading axis N.

    Returns:
        `variables` with which `module` reads raw inputs and writes raw targets.

    Raises:
        ValueError: for the per-token kinds, which no weights can absorb, for scales of several sources,
            for a variant that is not foldable, and for an affine kind without an encoder.

    Example:
        >>> from dictlearn import dictionaries
        >>> module = dictionaries.make("relu", d_in=4, n_latents=16, sparsity=0.1)
        >>> x_BD = jax.random.normal(jax.random.key(0), (8, 4))
        >>> variables = module.init(jax.random.key(1), x_BD, jnp.zeros(16, bool))
        >>> norm = Norm("unit_mean_sq", scale_in=0.5, scale_out=0.5)
        >>> folded = fold_normalisation(norm, module, variables)
        >>> y_BD, _ = module.apply(variables, 0.5 * x_BD, method="reconstruct")
        >>> raw_BD, _ = module.apply(folded, x_BD, method="reconstruct")
        >>> bool(jnp.allclose(raw_BD, y_BD / 0.5, atol=1e-5))
        True
    """
    if norm.kind in normalise.TOKEN_KINDS:
        raise ValueError(
            f"{norm.kind} divides every token by its own statistics and cannot be folded into "
            "weights; call normalise.forward around the dictionary instead."
        )
    if norm.kind == "none":
        return dict(variables)
    if norm.by_source:
        raise ValueError(
            f"{norm.kind} has a scale for each source, which would change the ranking of the latents: it "
            "cannot be folded; call normalise.forward around the dictionary instead."
        )
    if not module.foldable:
        raise ValueError(
            f"{type(module).__name__} does not scale with its input, so "
            f"{norm.kind} cannot be folded; call normalise.forward around it instead."
        )
    if norm.kind not in normalise.AFFINE_KINDS:
        return _renamed(variables, _scaled(norm))
    if "W_enc_FD" not in variables["params"]:
        raise ValueError(
            f"{type(module).__name__} encodes with its decoder's atoms, and {norm.kind} would need other "
            "atoms for each: it cannot be folded; call normalise.forward around the dictionary instead."
        )
    return _renamed(variables, _affine(norm, module))


def fold_decoder_norm(variables: Mapping[str, Any]) -> dict:
    """Rescales the atoms to unit norm without changing the function: W_enc, b_enc and thresholds are
    multiplied by n_i, the norms of the rows of W_dec_FD.

    Args:
        variables: variables with W_dec_FD, without a leading axis N.

    Returns:
        The rescaled variables. They are exact for ReLU, JumpReLU and any selection weighted by the norms
        of the atoms; another TopK selects other latents.

    Example:
        >>> params = {"W_dec_FD": 2 * jnp.eye(4), "W_enc_FD": jnp.eye(4), "b_enc_F": jnp.ones(4)}
        >>> fold_decoder_norm({"params": params})["params"]["b_enc_F"].tolist()
        [2.0, 2.0, 2.0, 2.0]
    """
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
        # The weight of a running mean is a count of batches and has no scale.
        if base.startswith(("b_", "threshold")) and base != "threshold_weight":
            return leaf / s
        return leaf

    return one


def _affine(norm: Norm, module) -> Callable:
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
            raise ValueError(f"{norm.kind} cannot be folded into {base} of {name}.")
        return leaf

    return one


def _renamed(variables: Mapping[str, Any], one: Callable) -> dict:
    """`one(base name, leaf)` for every leaf; the base name is the name without its axis letters."""

    def each(path, leaf):
        base, _, letters = path[-1].key.rpartition("_")
        return one(base if base and letters.isupper() else path[-1].key, leaf)

    return jax.tree_util.tree_map_with_path(each, dict(variables))
