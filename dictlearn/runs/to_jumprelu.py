"""A trained TopK or BatchTopK as JumpReLU: one score that a latent must exceed, for every token alike.

    theta = mean over batches of the (B k)-th largest score      score_i = ReLU(z_i), or ReLU(z_i) |d_i|
    f_i = z_i [z_i > theta_i]      theta_i = theta, or theta / |d_i|

Source: Llama Scope (He et al. 2024, arXiv:2410.20526), section 3, post-hoc JumpReLU. Scores are weighted by the
norms of the atoms where the trained variant's are. Encoding is then per latent and needs no top-k.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from dictlearn import dictionaries, normalise
from dictlearn.ops.topk.batch import nth_largest
from dictlearn.runs.trained import Trained

_WEIGHTS = ("W_enc_FD", "b_enc_F", "W_dec_FD", "b_dec_D")


def to_jumprelu(
    module: nn.Module,
    variables: Mapping[str, Any],
    batches: Iterable[normalise.Array],
    k: float | None = None,
) -> tuple[nn.Module, dict]:
    """(module, variables) of the variant `jumprelu` whose mean active latents a token are `k` on `batches`.

    variables: of one dictionary, without a leading axis N. batches: inputs `[B, D]` as the dictionary
    sees them (normalised), some 100,000 tokens. k: None for the module's own.
    Raises ValueError for a variant with other weights than a linear encoder and decoder, without batches, or
    for a k that the batches' positive pre-activations cannot fill."""
    params = variables["params"]
    if set(params) != set(_WEIGHTS):
        raise ValueError(
            f"{type(module).__name__} has the weights {', '.join(sorted(params))}; what becomes "
            f"JumpReLU must have {', '.join(_WEIGHTS)}."
        )
    k = float(getattr(module, "k", 0)) if k is None else k
    if not 0 < k <= module.n_latents:
        raise ValueError(f"{k=} must lie between 0 and {module.n_latents=}.")
    norm_F = jnp.ones(module.n_latents)
    if getattr(module, "norm_weighted", False):
        norm_F = jnp.linalg.norm(params["W_dec_FD"], axis=1)

    @jax.jit
    def cut(params, x_BD):
        x_BD = x_BD - params["b_dec_D"] if module.d_out is None else x_BD
        pre_BF = x_BD @ params["W_enc_FD"].T + params["b_enc_F"]
        return nth_largest(jax.nn.relu(pre_BF) * norm_F, jnp.int32(round(k * len(x_BD))))

    found = [float(cut(params, jnp.asarray(x_BD))) for x_BD in batches]
    if not found:
        raise ValueError("the threshold is found on batches of inputs, and there were none.")
    theta = sum(found) / len(found)
    if min(found) <= 0:
        raise ValueError(f"fewer than {k=} pre-activations a token are positive; give a smaller k.")
    sizes = {"d_in": module.d_in, "n_latents": module.n_latents, "d_out": module.d_out}
    threshold_F = theta / jnp.where(norm_F > 0, norm_F, 1)
    params = {**params, "log_threshold_F": jnp.log(threshold_F)}
    return dictionaries.make("jumprelu", **sizes), {"params": params}


def trained_to_jumprelu(
    dictionary: Trained, batches: Iterable[normalise.Array], k: float | None = None
) -> Trained:
    """`to_jumprelu` of a dictionary read back from a workdir, on raw activations. Its metrics are left
    empty, for it has not been evaluated. Raises ValueError as `to_jumprelu` does."""
    normalised = (normalise.forward(dictionary.norm, x_BD)[0] for x_BD in batches)
    module, variables = to_jumprelu(dictionary.module, dictionary.variables, normalised, k)
    return dataclasses.replace(dictionary, module=module, variables=variables, metrics={})
