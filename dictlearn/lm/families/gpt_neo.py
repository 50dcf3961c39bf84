"""GPT-Neo and TinyStories: GPT-2 with unscaled attention scores and sliding windows in every second layer.

Source: Black et al. 2021 (doi:10.5281/zenodo.5297715); TinyStories, arXiv:2305.07759.
"""

from typing import Any

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._names import layered, norm, pair, qkv
from dictlearn.lm.families._plain import PLAIN
from dictlearn.lm.names import Names
from dictlearn.lm.spec import Spec

NAMES = Names(
    prefixes=("transformer.", ""),
    outer={"embed_VD": "wte.weight", "position_TD": "wpe.weight", **norm("norm", "ln_f")},
    block=layered(
        {
            **norm("attn_norm", "ln_1"),
            **qkv(*(f"attn.attention.{one}_proj" for one in "qkv")),
            **pair("o", "HD", "attn.attention.out_proj"),
            **norm("mlp_norm", "ln_2"),
            **pair("up", "DM", "mlp.c_fc"),
            **pair("down", "MD", "mlp.c_proj"),
        },
        "h",
    ),
    unused=("attn.attention.bias", "attn.attention.masked_bias"),
)
SMALL = {"attention_types": [[["global", "local"], 1]]}


def _local(config: Config) -> tuple[int, ...]:
    """The sliding layers; `attention_types` is a list of (kinds, number of repetitions)."""
    config.get("attention_layers")  # the same, layer by layer
    types: Any = config.get("attention_types") or [[["global", "local"], 12]]
    kinds = [kind for some, repeats in types for kind in some * repeats]
    if len(kinds) != config.number("num_layers") or not set(kinds) <= {"global", "local"}:
        raise ValueError(
            f"config.json: attention_types is {types!r}, for {config.number('num_layers')} layers;"
            " known: 'global', 'local'."
        )
    return tuple(layer for layer, kind in enumerate(kinds) if kind == "local")


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a GPT-Neo.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range, and for an unknown attention.
    """
    d_model, n_heads = config.number("hidden_size"), config.number("num_heads")
    fields: dict[str, Any] = PLAIN | {"bias_qkv": False}
    return Spec(
        n_layers=config.number("num_layers"),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=d_model // n_heads,
        d_mlp=config.number("intermediate_size", 4 * d_model),
        vocab=config.number("vocab_size"),
        positions=config.number("max_position_embeddings", 2048),
        norm_eps=config.number("layer_norm_epsilon", 1e-5, float),
        tied=config.flag("tie_word_embeddings", True),
        activation=config.activation("activation_function", "gelu_new"),
        query_scale=1.0,
        window=config.number("window_size", 256),
        sliding_layers=_local(config),
        **fields,
    )
