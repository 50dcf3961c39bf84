"""Where a dictionary's parameters start, before the first update."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dictlearn.ops.initialise import data_rows, geometric_median, kaiming_uniform
from dictlearn.types import Batch, Dictionary

BIASES = {
    "zeros": lambda y_BD: jnp.zeros(y_BD.shape[1], y_BD.dtype),
    "mean": lambda y_BD: y_BD.mean(0),
    "geometric_median": geometric_median,
}
ATOMS = ("tied", "kaiming_uniform", "data_rows", "zeros")
ENCODERS = ("own", "centred")

Start = Callable[[Dictionary, jax.Array, Batch], dict]
"""(module, key, batch) -> variables: how a learner begins, from a sample of the data."""


def start(
    *,
    atoms_start: str = "tied",
    atom_norm: float = 1.0,
    b_enc_start: str = "own",
    b_dec_start: str = "geometric_median",
) -> Start:
    """The variables of a module before training.

    Args:
        atoms_start: "tied" (the encoder a copy of random atoms), "kaiming_uniform" (both drawn), "zeros" (the
            encoder drawn so, atoms of zero: for a rule that does not hold them at unit norm) or "data_rows"
            (tokens of the batch).
        atom_norm: the norm of the atoms.
        b_enc_start: "own" (as the variant declares) or "centred" (the mean pre-activations of the batch are
            zero; for transcoders).
        b_dec_start: "zeros", or the "mean" or the "geometric_median" of the batch.

    Raises:
        ValueError: for a start that there is not; when called, for one that the variant cannot have.
    """
    for name, value, known in (
        ("atoms_start", atoms_start, ATOMS),
        ("b_enc_start", b_enc_start, ENCODERS),
        ("b_dec_start", b_dec_start, BIASES),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(known)}.")

    def variables(module: Dictionary, key: jax.Array, batch: Batch) -> dict:
        k_module, k_start = jax.random.split(key)
        found = module.init(k_module, batch.x_BD, jnp.zeros(module.n_latents, bool))
        params = atoms(atoms_start, atom_norm, k_start, dict(found["params"]), batch)
        params = bias(module, b_enc_start, b_dec_start, params, batch)
        return module.start(k_start, {**found, "params": params}, batch)

    return variables


def bias(module, b_enc: str, b_dec: str, params: dict, batch: Batch) -> dict:
    """`params` with b_dec_D, where there is one, started from the targets; and with b_enc_F, for "centred",
    such that mean pre-activations are zero.

    Raises ValueError for a centred start of an autoencoder, or without an encoder."""
    if "b_dec_D" in params:
        start_D = BIASES[b_dec](batch.y_BD).astype(params["b_dec_D"].dtype)
        params = {**params, "b_dec_D": start_D}
    if b_enc != "centred":
        return params
    if module.d_out is None or not {"W_enc_FD", "b_enc_F"} <= params.keys():
        raise ValueError(
            "b_enc_start='centred' is for transcoders with W_enc_FD and b_enc_F; an autoencoder subtracts "
            "b_dec from its input. Leave it 'own'."
        )
    return {**params, "b_enc_F": -params["W_enc_FD"] @ batch.x_BD.mean(0)}


def atoms(name: str, norm, key, params: dict, batch: Batch) -> dict:
    """`params` with W_enc_FD and W_dec_FD, those there are, started as `name` says, atoms `norm` long.

    "zeros" draws the encoder as "kaiming_uniform" does and leaves atoms of zero, which no rule may hold
    at unit norm. "tied" leaves what the variant declared. "data_rows" are tokens about the batch's mean;
    the same tokens give a latent's encoder row (from x) and atom (from y)."""
    kept = {leaf: params[leaf] for leaf in ("W_enc_FD", "W_dec_FD") if leaf in params}
    if name in ("kaiming_uniform", "zeros"):
        keys = dict(zip(kept, jax.random.split(key, max(1, len(kept))), strict=False))
        kept = {leaf: kaiming_uniform(keys[leaf], W.shape, W.dtype) for leaf, W in kept.items()}
    if name == "data_rows":
        source = {"W_enc_FD": batch.x_BD, "W_dec_FD": batch.y_BD}
        for leaf, W in kept.items():
            if W.shape[1] != source[leaf].shape[1]:
                raise ValueError(
                    f"atoms_start='data_rows' starts rows as long as a token, {source[leaf].shape[1]}, and "
                    f"{leaf} has {W.shape[1]} columns; use 'tied' or 'kaiming_uniform'."
                )
        kept = {
            leaf: data_rows(key, source[leaf], len(W)).astype(W.dtype) for leaf, W in kept.items()
        }
    if name != "tied" and "W_dec_FD" in kept:
        W = kept["W_dec_FD"]
        kept["W_dec_FD"] = W / jnp.maximum(jnp.linalg.norm(W, axis=1, keepdims=True), 1e-12)
    scale = {"W_enc_FD": norm, "W_dec_FD": 0.0 if name == "zeros" else norm}
    return {**params, **{leaf: scale[leaf] * W for leaf, W in kept.items()}}
