"""Gemma: Llama with a scaled embedding, GELU, and norms that store their gain minus one.

From Gemma 2 on: norms after attention and the MLP, sliding layers, and a scale of the scores in the config.
"""

from typing import Any

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gguf import Metadata
from dictlearn.lm.families._llama import BLOCK, NAMES, llama_spec
from dictlearn.lm.families._names import layered
from dictlearn.lm.families._windows import sliding_layers
from dictlearn.lm.spec import Spec

PRE_NORMED = NAMES._replace(norm_plus=1.0)
POST_NORMED = PRE_NORMED._replace(
    block=layered(
        BLOCK
        | {
            "attn_post_norm_D": "post_attention_layernorm.weight",
            "mlp_norm_D": "pre_feedforward_layernorm.weight",
            "mlp_post_norm_D": "post_feedforward_layernorm.weight",
        }
    ),
)


def gemma_spec(config: Config, **fields: Any) -> Spec:
    if config.values.get("hidden_act") == config.get("hidden_activation"):
        config.get("hidden_act")  # published files state it twice
    return llama_spec(
        config,
        tied=True,
        activation=config.activation("hidden_activation", "gelu_pytorch_tanh"),
        embed_scale=float(config.number("hidden_size") ** 0.5),
        **fields,
    )


def sliding_spec(
    config: Config, every: int, logit_cap: float | None, post_norms: bool = True, **fields: Any
) -> Spec:
    """The Spec of a Gemma with sliding layers.

    `every`: one layer in this many attends to all positions, unless the file states which. `logit_cap`: the
    cap of the logits, unless the file states it.
    """
    every = config.number("_sliding_window_pattern", every)
    every = config.number("sliding_window_pattern", every)
    return gemma_spec(
        config,
        post_norms=post_norms,
        window=config.number("sliding_window", 4096),
        sliding_layers=sliding_layers(config, lambda layer: (layer + 1) % every > 0),
        query_scale=config.number("query_pre_attn_scalar", 256, float) ** -0.5,
        logit_cap=config.maybe("final_logit_softcapping", logit_cap),
        **fields,
    )


def gemma_gguf(meta: Metadata) -> dict[str, Any]:
    """The fields of any Gemma that no key states."""
    scale = float(meta.number("embedding_length") ** 0.5)
    return {"activation": "gelu_tanh", "embed_scale": scale}


def sliding_gguf(
    meta: Metadata, every: int, large: int, window: int | None = None
) -> dict[str, Any]:
    """The fields of a Gemma with sliding layers that keys do not state in a common way.

    `every` and `window` are defaults. `large`: the number of layers of the 27B model, which identifies it; it
    scales scores by d_model / n_heads instead of the width of a head.
    """
    n_layers, d_model = meta.number("block_count"), meta.number("embedding_length")
    scaled = (d_model / meta.number("attention.head_count")) ** -0.5
    return {
        **gemma_gguf(meta),
        "post_norms": True,
        "window": meta.number("attention.sliding_window", default=window),
        "sliding_layers": _gguf_layers(meta, n_layers, every),
        "query_scale": scaled if n_layers == large else None,
    }


def _gguf_layers(meta: Metadata, n_layers: int, every: int) -> tuple[int, ...]:
    """The sliding layers: the key holds a period, or a value for each layer."""
    pattern = meta.get("attention.sliding_window_pattern", every)
    if isinstance(pattern, list):
        if len(pattern) != n_layers:
            raise ValueError(
                f"attention.sliding_window_pattern is of {len(pattern)} layers, for {n_layers}."
            )
        return tuple(layer for layer, slides in enumerate(pattern) if slides)
    every = meta.number("attention.sliding_window_pattern", default=every)
    return tuple(layer for layer in range(n_layers) if (layer + 1) % every)
