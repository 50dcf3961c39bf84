"""Hugging Face's `config.json`, read as a `Spec`: which model is which decoder.

Source: the configuration and modelling files of transformers; a key that a file leaves out has the
value that its family's configuration class gives it. Llama 3's rotary scaling is `apply_scaling` of
meta-llama/llama-models; linear scaling is Chen et al. 2023 (arXiv:2306.15595).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dictlearn.lm.spec import Spec

_ACTIVATIONS = {
    **{"silu": "silu", "swish": "silu", "gelu": "gelu"},
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), "gelu_tanh"),
}
_REFUSED = (
    *("alibi", "num_local_experts", "num_experts", "quantization_config", "add_cross_attention"),
    *("scale_attn_by_inverse_layer_idx", "use_bidirectional_attention"),
)
"""Keys that stand for something the decoder does not do, where they hold anything but nothing."""


class _Config:
    """A `config.json`, whose values are checked as they are read."""

    def __init__(self, values: Mapping[str, Any]):
        self.values = values

    def number(self, key: str, default: float | int | None = None, kind: type = int) -> Any:
        value: Any = self.values.get(key)
        value = default if value is None else value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 < value < math.inf and kind(value) == value):
            raise ValueError(f"config.json: {key} is {value!r}, not a positive {kind.__name__}.")
        return kind(value)

    def maybe(self, key: str, default: float | int | None = None, kind: type = float) -> Any:
        """A number, or None where the file says null, or nothing and the default is None."""
        value = self.values.get(key, default)
        return None if value is None else self.number(key, default, kind)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise ValueError(f"config.json: {key} is {value!r}, not true or false.")
        return value

    def activation(self, key: str, default: str) -> str:
        value = self.values.get(key) or default
        if value not in _ACTIVATIONS:
            known = ", ".join(_ACTIVATIONS)
            raise ValueError(f"config.json: {key} is {value!r}; known: {known}.")
        return _ACTIVATIONS[value]


def llama3_divisors(
    base: float, width: int, factor: float, low: float, high: float, context: int
) -> tuple[float, ...]:
    """What Llama 3 divides each pair's frequency by: `factor` where it makes fewer than `low` turns
    in `context` positions, 1 where more than `high`, and linear in between, in the frequency."""
    turns = context * base ** (-np.arange(width // 2) / (width // 2)) / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return tuple((1 / (kept + (1 - kept) / factor)).tolist())


def _divisors(rope: Mapping[str, Any], base: float, width: int) -> tuple[float, ...]:
    kind = rope.get("rope_type", rope.get("type", "default"))
    values = _Config(rope)
    if kind == "default":
        return ()
    if kind == "linear":
        return (values.number("factor", kind=float),) * (width // 2)
    if kind == "llama3":
        names = ("factor", "low_freq_factor", "high_freq_factor")
        return llama3_divisors(
            base,
            width,
            *(values.number(name, kind=float) for name in names),
            context=values.number("original_max_position_embeddings"),
        )
    raise ValueError(f"config.json: rope type {kind!r}; known: 'default', 'linear', 'llama3'.")


def _rope(config: _Config, head_dim: int, base: float = 1e4, part: float = 1.0) -> dict[str, Any]:
    """The rotary fields. Transformers 5 writes `rope_parameters`, older ones separate keys."""
    values = config.values
    old = {"rope_theta": values.get("rope_theta", values.get("rotary_emb_base", base))}
    old["partial_rotary_factor"] = values.get("partial_rotary_factor", values.get("rotary_pct"))
    full = old | (values.get("rope_scaling") or {}) | (values.get("rope_parameters") or {})
    local = _Config({"rope_theta": values.get("rope_local_base_freq")})
    if "full_attention" in full:
        local = _Config(full.get("sliding_attention") or {})
        full = old | (full["full_attention"] or {})
    if local.values.get("rope_type", "default") != "default":
        raise ValueError("config.json: rope scaling of sliding layers is not known.")
    base = _Config(full).number("rope_theta", base, float)
    width = int(head_dim * _Config(full).number("partial_rotary_factor", part, float))
    return {
        "rope_base": base,
        "rope_width": None if width == head_dim else width,
        "rope_divisors": _divisors(full, base, width),
        "local_rope_base": local.maybe("rope_theta"),
    }


def _slides(config: _Config, n_layers: int, default: Mapping[int, bool]) -> tuple[int, ...]:
    kinds = config.values.get("layer_types")
    if kinds is None:
        return tuple(layer for layer in range(n_layers) if default[layer])
    if len(kinds) != n_layers or not set(kinds) <= {"sliding_attention", "full_attention"}:
        raise ValueError(
            f"config.json: layer_types of {len(kinds)} layers for {n_layers}, holding"
            f" {sorted(set(kinds))}; known: 'full_attention', 'sliding_attention'."
        )
    return tuple(layer for layer, kind in enumerate(kinds) if kind == "sliding_attention")


_PLAIN: dict[str, Any] = {"norm": "layer", "gated": False}
_PLAIN |= dict.fromkeys(("bias_qkv", "bias_o", "bias_mlp"), True)


def _gpt2(config: _Config) -> Spec:
    d_model, n_heads = config.number("n_embd"), config.number("n_head")
    return Spec(
        n_layers=config.number("n_layer"),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=d_model // n_heads,
        d_mlp=config.number("n_inner", 4 * d_model),
        vocab=config.number("vocab_size"),
        positions=config.number("n_positions"),
        norm_eps=config.number("layer_norm_epsilon", 1e-5, float),
        tied=config.flag("tie_word_embeddings", True),
        activation=config.activation("activation_function", "gelu_new"),
        query_scale=None if config.flag("scale_attn_weights", True) else 1.0,
        **_PLAIN,
    )


def _neox(config: _Config) -> Spec:
    d_model, n_heads = config.number("hidden_size"), config.number("num_attention_heads")
    head_dim, bias = d_model // n_heads, config.flag("attention_bias", True)
    biases: dict[str, Any] = {"bias_qkv": bias, "bias_o": bias}
    return Spec(
        n_layers=config.number("num_hidden_layers"),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=head_dim,
        d_mlp=config.number("intermediate_size"),
        vocab=config.number("vocab_size"),
        norm_eps=config.number("layer_norm_eps", 1e-5, float),
        tied=config.flag("tie_word_embeddings", False),
        activation=config.activation("hidden_act", "gelu"),
        parallel=config.flag("use_parallel_residual", True),
        **_rope(config, head_dim, part=0.25),
        **(_PLAIN | biases),
    )


def _llama(config: _Config, tied: bool = False, base: float = 1e4, **fields: Any) -> Spec:
    """Llama and what descends from it; `fields` are those in which a family differs."""
    d_model, n_heads = config.number("hidden_size"), config.number("num_attention_heads")
    head_dim = config.number("head_dim", d_model // n_heads)
    bias = config.flag("attention_bias", False)
    given = {
        "activation": config.activation("hidden_act", "silu"),
        **{"bias_qkv": bias, "bias_o": bias, "bias_mlp": config.flag("mlp_bias", False)},
        **_rope(config, head_dim, base),
    }
    return Spec(
        n_layers=config.number("num_hidden_layers"),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=config.number("num_key_value_heads", n_heads),
        head_dim=head_dim,
        d_mlp=config.number("intermediate_size"),
        vocab=config.number("vocab_size"),
        norm_eps=config.number("rms_norm_eps", 1e-6, float),
        tied=config.flag("tie_word_embeddings", tied),
        **(given | fields),
    )


def _mistral(config: _Config) -> Spec:
    window, n_layers = config.maybe("sliding_window", 4096, int), config.number("num_hidden_layers")
    sliding = _slides(config, n_layers, dict.fromkeys(range(n_layers), True)) if window else ()
    return _llama(config, window=window, sliding_layers=sliding)


def _qwen(config: _Config, **fields: Any) -> Spec:
    n_layers = config.number("num_hidden_layers")
    if not config.flag("use_sliding_window", False):
        return _llama(config, **fields)
    first = config.number("max_window_layers", 28)
    sliding = _slides(config, n_layers, {layer: layer >= first for layer in range(n_layers)})
    return _llama(config, window=config.number("sliding_window"), sliding_layers=sliding, **fields)


def _gemma(config: _Config, every: int, base: float, **fields: Any) -> Spec:
    """`every`: how many layers from one that sees all positions to the next."""
    n_layers, d_model = config.number("num_hidden_layers"), config.number("hidden_size")
    every = config.number("sliding_window_pattern", every)
    sliding = {layer: (layer + 1) % every > 0 for layer in range(n_layers)}
    return _llama(
        config,
        tied=True,
        base=base,
        activation=config.activation("hidden_activation", "gelu_pytorch_tanh"),
        post_norms=True,
        window=config.number("sliding_window", 4096),
        sliding_layers=_slides(config, n_layers, sliding),
        embed_scale=float(d_model**0.5),
        query_scale=config.number("query_pre_attn_scalar", 256, float) ** -0.5,
        **fields,
    )


def _gemma2(config: _Config) -> Spec:
    caps = {
        "attn_cap": config.maybe("attn_logit_softcapping", 50.0),
        "logit_cap": config.maybe("final_logit_softcapping", 30.0),
    }
    return _gemma(config, 2, 1e4, **caps)


def _gemma3(config: _Config) -> Spec:
    spec_base = {"rope_local_base_freq": 1e4} if "rope_parameters" not in config.values else {}
    caps = {
        "attn_cap": config.maybe("attn_logit_softcapping"),
        "logit_cap": config.maybe("final_logit_softcapping"),
    }
    return _gemma(_Config(spec_base | dict(config.values)), 6, 1e6, qk_norm=True, **caps)


FAMILIES = {
    "gpt2": _gpt2,
    "gpt_neox": _neox,
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": lambda config: _qwen(config, bias_qkv=True),
    "qwen3": lambda config: _qwen(config, qk_norm=True),
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
}
"""`model_type` -> config -> Spec."""


def spec_from_config(config: Mapping[str, Any]) -> Spec:
    """The hyperparameters that a Hugging Face `config.json` states.

    Raises ValueError for another family, for a value that is missing or out of range, and for what
    the decoder does not do (experts, ALiBi, other rope types, quantised weights)."""
    family = config.get("model_type")
    if family not in FAMILIES:
        raise ValueError(f"config.json: model_type {family!r}; known: {', '.join(FAMILIES)}.")
    for key in _REFUSED:
        if config.get(key):
            raise ValueError(f"config.json: {key} is {config[key]!r}, which is not supported.")
    return FAMILIES[family](_Config(config))
