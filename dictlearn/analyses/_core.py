"""SAEBench's record of the core numbers: its keys and ours, and the numbers of the weights."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.ops.lengths import unit_rows
from dictlearn.runs.trained import Trained

_BLOCK = 256
_GROUPS = {
    "model_behavior_preservation": {
        "kl_div_score": "kl_score",
        "kl_div_with_ablation": "kl_ablated",
        "kl_div_with_sae": "kl",
    },
    "model_performance_preservation": {
        "ce_loss_score": "ce_score",
        "ce_loss_with_ablation": "ce_ablated",
        "ce_loss_with_sae": "ce_spliced",
        "ce_loss_without_sae": "ce_original",
    },
    "reconstruction_quality": {
        key: key for key in ("explained_variance", "explained_variance_legacy", "mse", "cossim")
    },
    "shrinkage": {
        key: key
        for key in ("l2_norm_in", "l2_norm_out", "l2_ratio", "relative_reconstruction_bias")
    },
    "sparsity": {"l0": "l0", "l1": "l1"},
    "token_stats": {
        "total_tokens_eval_reconstruction": "ce_tokens",
        "total_tokens_eval_sparsity_variance": "n_tokens",
    },
    "misc_metrics": {
        **{f"freq_over_{p}_percent": f"freq_over_{p}_percent" for p in (1, 10)},
        **{
            f"normalized_freq_over_{p}_percent": f"normalized_freq_over_{p}_percent"
            for p in (1, 10)
        },
        **{
            f"average_max_{part}_cosine_sim": f"max_{part}_cosine_sim"
            for part in ("encoder", "decoder")
        },
        "frac_alive": "frac_alive",
    },
}
"""{SAEBench's category: {its key: ours}}."""
KEYS = [key for group in _GROUPS.values() for key in group]
"""SAEBench's keys."""
_OF_LATENTS = {
    "feature_density": "density",
    "consistent_activation_heuristic": "consistent",
    "encoder_bias": "encoder_bias",
    "encoder_norm": "encoder_norm",
    "encoder_decoder_cosine_sim": "encoder_decoder_cosine",
    "max_decoder_cosine_sim": "max_decoder_cosine",
    "max_encoder_cosine_sim": "max_encoder_cosine",
}
"""{SAEBench's key: ours} of the numbers of each latent."""


def weights(one: Trained) -> dict[str, Any]:
    """The numbers of a dictionary's weights, of those that it has."""
    params = one.variables["params"]
    rows = {"decoder": params.get("W_dec_FD"), "encoder": params.get("W_enc_FD")}
    there = {part: W_FD for part, W_FD in rows.items() if W_FD is not None and W_FD.ndim == 2}
    found = {}
    for part, W_FD in there.items():
        found[f"max_{part}_cosine"] = np.asarray(_closest(W_FD))
        found[f"max_{part}_cosine_sim"] = float(found[f"max_{part}_cosine"].mean())
    if "encoder" in there:
        found["encoder_norm"] = np.linalg.norm(np.asarray(there["encoder"]), axis=1)
    if len(there) == 2:
        both = [np.asarray(unit_rows(W_FD)) for W_FD in there.values()]
        found["encoder_decoder_cosine"] = (both[0] * both[1]).sum(1)
    bias_F = params.get("b_enc_F")
    return found | ({} if bias_F is None else {"encoder_bias": np.asarray(bias_F)})


@jax.jit
def _closest(W_FD: jax.Array) -> jax.Array:
    """The largest cosine of each row with another row."""
    unit_FD = unit_rows(W_FD)
    another = lambda i: jnp.where(jnp.arange(len(W_FD)) == i, -jnp.inf, unit_FD @ unit_FD[i]).max()
    return jax.lax.map(another, jnp.arange(len(W_FD)), batch_size=min(_BLOCK, len(W_FD)))


def flat(own: Mapping[str, Any]) -> dict[str, float]:
    """SAEBench's key: value; NaN for what the dictionary does not have."""
    pairs = [pair for group in _GROUPS.values() for pair in group.items()]
    return {theirs: float(own.get(ours, np.nan)) for theirs, ours in pairs}


def record(own: Mapping[str, Any], latents: bool) -> dict[str, Any]:
    """The record of a dictionary from its numbers. latents: whether it has the numbers of each latent."""
    metrics = flat(own)
    columns = {theirs: own[ours].tolist() for theirs, ours in _OF_LATENTS.items() if ours in own}
    details = [
        {"index": i, **dict(zip(columns, values, strict=True))}
        for i, values in enumerate(zip(*columns.values(), strict=True))
    ]
    return {
        "eval_result_metrics": {
            group: {key: metrics[key] for key in keys} for group, keys in _GROUPS.items()
        },
        "eval_result_details": details if latents else [],
        "eval_result_unstructured": {"saebench_formulas": own["compat"]["saebench"]},
    }
