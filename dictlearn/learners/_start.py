"""Initialisation of a dictionary's variables from a sample of the data."""

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
"""(module, key, batch) -> variables: the initial variables, from a sample of the data."""


def start(
    *,
    atoms_start: str = "tied",
    atom_norm: float = 1.0,
    b_enc_start: str = "own",
    b_dec_start: str = "geometric_median",
) -> Start:
    """The initialisation of a module's variables.

    Args:
        atoms_start: "tied" (the encoder is a copy of random atoms), "kaiming_uniform" (both are drawn),
            "zeros" (the encoder is drawn, the atoms are zero; for a rule that does not hold atoms at unit
            norm) or "data_rows" (tokens of the batch).
        atom_norm: the norm of the atoms.
        b_enc_start: "own" (as the variant declares) or "centred" (the mean pre-activations of the batch
            are zero; for transcoders).
        b_dec_start: "zeros", or the "mean" or the "geometric_median" of the batch.

    Returns:
        A function (module, key, batch) -> variables. It raises ValueError for an initialisation that the
        module cannot have.

    Raises:
        ValueError: for an unknown initialisation.

    Example:
        >>> import jax
        >>> from dictlearn import Batch, dictionaries
        >>> x_BD = jax.random.normal(jax.random.key(0), (8, 4))
        >>> module = dictionaries.make("topk", d_in=4, n_latents=16, k=2)
        >>> variables = start(b_dec_start="mean")(module, jax.random.key(1), Batch(x_BD, x_BD))
        >>> bool((variables["params"]["b_dec_D"] == x_BD.mean(0)).all())
        True
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
        found = module.init(k_module, method="declare")
        params = atoms(atoms_start, atom_norm, k_start, dict(found["params"]), batch)
        params = bias(module, b_enc_start, b_dec_start, params, batch)
        return module.start(k_start, {**found, "params": params}, batch)

    return variables


def bias(module, b_enc: str, b_dec: str, params: dict, batch: Batch) -> dict:
    """`params` with b_dec_D, if there is one, initialised from the targets, and, for "centred", with b_enc_F
    such that mean pre-activations are zero.

    Raises ValueError for a centred initialisation of an autoencoder, or of a module without an encoder.
    """
    if "b_dec_D" in params:
        start_D = BIASES[b_dec](batch.y_BD).astype(params["b_dec_D"].dtype)
        params = {**params, "b_dec_D": start_D}
    if b_enc != "centred":
        return params
    if module.d_out is None or not {"W_enc_FD", "b_enc_F"} <= params.keys():
        raise ValueError(
            "b_enc_start='centred' is for transcoders with W_enc_FD and b_enc_F; an autoencoder subtracts "
            "b_dec from its input. Use 'own'."
        )
    return {**params, "b_enc_F": -params["W_enc_FD"] @ batch.x_BD.mean(0)}


def atoms(name: str, norm, key, params: dict, batch: Batch) -> dict:
    """`params` with W_enc_FD and W_dec_FD, where they exist, initialised as `name` says, with atoms of norm
    `norm`.

    "zeros" draws the encoder as "kaiming_uniform" does and sets the atoms to zero, which no rule may hold
    at unit norm. "tied" keeps what the variant declared. "data_rows" uses tokens about the mean of the
    batch; the same tokens give a latent's encoder row (from x) and its atom (from y).
    """
    rows = {leaf: params[leaf] for leaf in ("W_enc_FD", "W_dec_FD") if leaf in params}
    if name in ("kaiming_uniform", "zeros"):
        keys = dict(zip(rows, jax.random.split(key, max(1, len(rows))), strict=False))
        rows = {leaf: kaiming_uniform(keys[leaf], W.shape, W.dtype) for leaf, W in rows.items()}
    if name == "data_rows":
        source = {"W_enc_FD": batch.x_BD, "W_dec_FD": batch.y_BD}
        for leaf, W in rows.items():
            if W.shape[1] != source[leaf].shape[1]:
                raise ValueError(
                    f"atoms_start='data_rows' starts rows at tokens of width {source[leaf].shape[1]}, but "
                    f"{leaf} has {W.shape[1]} columns; use 'tied' or 'kaiming_uniform'."
                )
        rows = {
            leaf: data_rows(key, source[leaf], len(W)).astype(W.dtype) for leaf, W in rows.items()
        }
    if name != "tied" and "W_dec_FD" in rows:
        W = rows["W_dec_FD"]
        rows["W_dec_FD"] = W / jnp.maximum(jnp.linalg.norm(W, axis=1, keepdims=True), 1e-12)
    scale = {"W_enc_FD": norm, "W_dec_FD": 0.0 if name == "zeros" else norm}
    return {**params, **{leaf: scale[leaf] * W for leaf, W in rows.items()}}
