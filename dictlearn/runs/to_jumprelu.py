"""Conversion to JumpReLU: a trained dictionary whose activation is replaced by a threshold for each latent.

    theta = mean over batches of the (B k)-th largest score      score_i = ReLU(z_i), or ReLU(z_i) |d_i|
    f_i = z_i [z_i > theta_i]      theta_i = theta, or theta / |d_i|

The threshold is the same for every token, so encoding needs no top-k. Scores are weighted by the norms of
the atoms where the trained activation weights them. A Gated dictionary is converted exactly.

Source: Llama Scope (He et al. 2024, arXiv:2410.20526), section 3, post-hoc JumpReLU; Rajamanoharan et al.
2024 (arXiv:2404.16014), appendix (Gated).
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

__all__ = ["gated_to_jumprelu", "to_jumprelu", "trained_to_jumprelu"]


def to_jumprelu(
    module: Dictionary,
    variables: Mapping[str, Any],
    batches: Iterable[normalise.Array],
    k: float | None = None,
) -> tuple[Dictionary, dict]:
    """Replaces the activation of a dictionary by JumpReLU, with on average `k` active latents of a token.

    Args:
        module: a dictionary with an activation.
        variables: its variables, without a leading axis N.
        batches: normalised inputs `[B, D]` of the dictionary, about 100,000 tokens.
        k: the mean number of active latents of a token on `batches`; None for the k of the activation.

    Returns:
        (module, variables) of the same structure with JumpReLU.

    Raises:
        ValueError: for a dictionary without an activation, without batches, or for a k that is larger
            than the number of positive pre-activations of the batches.

    Example:
        >>> x_BD = jax.random.normal(jax.random.key(0), (64, 4))
        >>> module = dictionaries.make("topk", d_in=4, n_latents=16, k=2)
        >>> variables = module.init(jax.random.key(1), x_BD, jnp.zeros(16, bool))
        >>> jumping, variables = to_jumprelu(module, variables, [x_BD])
        >>> codes = jumping.apply(variables, x_BD, method="encode")
        >>> 1.9 < float((codes.val > 0).sum(1).mean()) <= 2
        True
    """
    module = _linear(module)
    k = float(dictionaries.describe(module).get("k", 0)) if k is None else k
    if not 0 < k <= module.n_latents:
        raise ValueError(f"{k=} must be between 0 and {module.n_latents=}.")
    weight: Any = module.apply(variables, method="weight")
    weight_F = jnp.ones(module.n_latents) if weight is None else jnp.asarray(weight)

    @jax.jit
    def cut(variables, x_BD):
        pre_BF: Any = module.apply(variables, x_BD, method="pre_activations")
        return nth_largest(jax.nn.relu(pre_BF) * weight_F, jnp.int32(round(k * len(x_BD))))

    found = [float(cut(variables, jnp.asarray(x_BD))) for x_BD in batches]
    if not found:
        raise ValueError("the threshold is estimated on batches of inputs, but there are none.")
    theta = sum(found) / len(found)
    if min(found) <= 0:
        raise ValueError(
            f"fewer than {k=} pre-activations of a token are positive; give a smaller k."
        )
    log_threshold_F = jnp.log(theta / jnp.where(weight_F > 0, weight_F, 1))
    return _jumping(module, variables, {"log_threshold_F": log_threshold_F})


def gated_to_jumprelu(module: Dictionary, variables: Mapping[str, Any]) -> tuple[Dictionary, dict]:
    """Replaces a Gated activation by JumpReLU, with the same codes and reconstructions.

    Args:
        module: a dictionary with the activation Gated.
        variables: its variables, without a leading axis N.

    Returns:
        (module, variables) of the same structure with JumpReLU.

    Raises:
        ValueError: for another activation.

    Example:
        >>> x_BD = jax.random.normal(jax.random.key(0), (8, 4))
        >>> gated = dictionaries.make("gated", d_in=4, n_latents=16, sparsity=0.1)
        >>> variables = gated.init(jax.random.key(1), x_BD, jnp.zeros(16, bool))
        >>> jumping, _ = gated_to_jumprelu(gated, variables)
        >>> dictionaries.describe(jumping)["activation"]
        'jumprelu'
    """
    module = _linear(module)
    if dictionaries.describe(module)["activation"] != "gated":
        raise ValueError(f"{type(module.activation).__name__} is not Gated; use to_jumprelu.")
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
    """The module with JumpReLU, and the variables that it has, updated by `changed`."""
    new = module.clone(activation=JumpReLU(d_in=module.d_in, n_latents=module.n_latents))
    x_BD, dead_F = jnp.zeros((1, module.d_in)), jnp.zeros(module.n_latents, bool)
    wanted = jax.eval_shape(new.init, jax.random.key(0), x_BD, dead_F)
    have = {**variables, "params": {**variables["params"], **changed}}
    pick = lambda name, leaves: {leaf: have[name][leaf] for leaf in leaves}
    return new, {name: pick(name, leaves) for name, leaves in wanted.items()}


def trained_to_jumprelu(
    dictionary: Trained, batches: Iterable[normalise.Array], k: float | None = None
) -> Trained:
    """`to_jumprelu` for a Trained dictionary, on raw activations.

    Args:
        dictionary: a trained dictionary with an activation.
        batches: raw activations `[B, D]`, about 100,000 tokens.
        k: as in `to_jumprelu`.

    Returns:
        The dictionary with JumpReLU and without metrics, because it has not been evaluated.

    Raises:
        ValueError: as `to_jumprelu` does.

    Example:
        >>> x_BD = jax.random.normal(jax.random.key(0), (64, 4))
        >>> module = dictionaries.make("topk", d_in=4, n_latents=16, k=2)
        >>> variables = module.init(jax.random.key(1), x_BD, jnp.zeros(16, bool))
        >>> trained_to_jumprelu(Trained(module, variables), [x_BD]).metrics
        {}
    """
    normalised = (normalise.forward(dictionary.norm, x_BD)[0] for x_BD in batches)
    module, variables = to_jumprelu(dictionary.module, dictionary.variables, normalised, k)
    return dataclasses.replace(dictionary, module=module, variables=variables, metrics={})
