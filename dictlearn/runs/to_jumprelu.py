"""A trained dictionary with JumpReLU in the place of its activation: a score that a latent must exceed, for
every token alike. Encoding is then per latent and needs no top-k.

    theta = mean over batches of the (B k)-th largest score      score_i = ReLU(z_i), or ReLU(z_i) |d_i|
    f_i = z_i [z_i > theta_i]      theta_i = theta, or theta / |d_i|

Source: Llama Scope (He et al. 2024, arXiv:2410.20526), section 3, post-hoc JumpReLU. Scores are weighted by
what latents add where the trained activation's are. A Gated one is a JumpReLU as it stands: Rajamanoharan et
al. 2024 (arXiv:2404.16014), appendix.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp

from dictlearn import dictionaries, normalise
from dictlearn.dictionaries._activations.jumprelu import JumpReLU
from dictlearn.dictionaries._linear import Linear
from dictlearn.ops.topk.batch import nth_largest
from dictlearn.runs.trained import Trained
from dictlearn.types import Dictionary


def to_jumprelu(
    module: Dictionary,
    variables: Mapping[str, Any],
    batches: Iterable[normalise.Array],
    k: float | None = None,
) -> tuple[Dictionary, dict]:
    """(module, variables) of the same structure with JumpReLU, whose mean active latents a token are `k` on
    `batches`.

    variables: of one dictionary, without a leading axis N. batches: inputs `[B, D]` as the dictionary
    sees them (normalised), some 100,000 tokens. k: None for the activation's own.
    Raises ValueError for a dictionary without an activation or with parameters in it, without batches, or
    for a k that the batches' positive pre-activations cannot fill."""
    module = _linear(module)
    k = float(dictionaries.describe(module).get("k", 0)) if k is None else k
    if not 0 < k <= module.n_latents:
        raise ValueError(f"{k=} must lie between 0 and {module.n_latents=}.")
    weight: Any = module.apply(variables, method="weight")
    weight_F = jnp.ones(module.n_latents) if weight is None else jnp.asarray(weight)

    @jax.jit
    def cut(variables, x_BD):
        pre_BF: Any = module.apply(variables, x_BD, method="pre_activations")
        return nth_largest(jax.nn.relu(pre_BF) * weight_F, jnp.int32(round(k * len(x_BD))))

    found = [float(cut(variables, jnp.asarray(x_BD))) for x_BD in batches]
    if not found:
        raise ValueError("the threshold is found on batches of inputs, and there were none.")
    theta = sum(found) / len(found)
    if min(found) <= 0:
        raise ValueError(f"fewer than {k=} pre-activations a token are positive; give a smaller k.")
    log_threshold_F = jnp.log(theta / jnp.where(weight_F > 0, weight_F, 1))
    return _jumping(module, variables, {"log_threshold_F": log_threshold_F})


def gated_to_jumprelu(module: Dictionary, variables: Mapping[str, Any]) -> tuple[Dictionary, dict]:
    """(module, variables) of the same structure with JumpReLU: the same codes and reconstructions.

    Raises ValueError for another activation than Gated."""
    module = _linear(module)
    if dictionaries.describe(module)["activation"] != "gated":
        raise ValueError(f"{type(module.activation).__name__} is no Gated; take to_jumprelu.")
    params = variables["params"]
    scale_F = jnp.exp(params["r_mag_F"])
    return _jumping(
        module,
        variables,
        {
            "W_enc_FD": scale_F[:, None] * params["W_enc_FD"],
            "b_enc_F": params["b_mag_F"],
            "log_threshold_F": jnp.log(
                jnp.maximum(params["b_mag_F"] - scale_F * params["b_enc_F"], 0)
            ),
        },
    )


def _linear(module: Dictionary) -> Linear:
    if not dictionaries.activations(dictionaries.describe(module)["name"]):
        raise ValueError(f"{type(module).__name__} has no activation that JumpReLU could replace.")
    return cast(Linear, module)


def _jumping(module: Linear, variables: Mapping[str, Any], changed: Mapping[str, Any]):
    """The module with JumpReLU, and of the variables, with those `changed`, what it has."""
    new = module.clone(activation=JumpReLU(d_in=module.d_in, n_latents=module.n_latents))
    x_BD, dead_F = jnp.zeros((1, module.d_in)), jnp.zeros(module.n_latents, bool)
    wanted = jax.eval_shape(new.init, jax.random.key(0), x_BD, dead_F)
    have = {**variables, "params": {**variables["params"], **changed}}
    pick = lambda name, leaves: {leaf: have[name][leaf] for leaf in leaves}
    return new, {name: pick(name, leaves) for name, leaves in wanted.items()}


def trained_to_jumprelu(
    dictionary: Trained, batches: Iterable[normalise.Array], k: float | None = None
) -> Trained:
    """`to_jumprelu` of a dictionary read back from a workdir, on raw activations. Its metrics are left
    empty, for it has not been evaluated. Raises ValueError as `to_jumprelu` does."""
    normalised = (normalise.forward(dictionary.norm, x_BD)[0] for x_BD in batches)
    module, variables = to_jumprelu(dictionary.module, dictionary.variables, normalised, k)
    return dataclasses.replace(dictionary, module=module, variables=variables, metrics={})
