"""Llama and its descendants: the fields of the config, and the names of the tensors."""

from collections.abc import Callable
from typing import Any

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._names import layered, norm, pair, qkv
from dictlearn.lm.families._rope import rope
from dictlearn.lm.names import Names
from dictlearn.lm.spec import Spec

BLOCK = {
    **norm("attn_norm", "input_layernorm"),
    **qkv(*(f"self_attn.{one}_proj" for one in "qkv")),
    **pair("o", "HD", "self_attn.o_proj"),
    **{"q_norm_W": "self_attn.q_norm.weight", "k_norm_W": "self_attn.k_norm.weight"},
    **norm("mlp_norm", "post_attention_layernorm"),
    **pair("gate", "DM", "mlp.gate_proj"),
    **pair("up", "DM", "mlp.up_proj"),
    **pair("down", "MD", "mlp.down_proj"),
}
NAMES = Names(
    prefixes=("model.", ""),
    outer={"embed_VD": "embed_tokens.weight", **norm("norm", "norm")},
    block=layered(BLOCK),
)


def llama_spec(
    config: Config, tied: bool = False, base: float = 1e4, part: float = 1.0, **fields: Any
) -> Spec:
    """Reads the hyperparameters of a Llama, or of a family that differs from it in some fields.

    Args:
        config: its `config.json`.
        tied: whether the embedding is tied, unless the file states it.
        base: the base of the rotary positions, unless the file states it.
        part: the share of a head's dimensions that turn, unless the file states it.
        fields: the fields of the `Spec` in which the family differs.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range.
    """
    d_model, n_heads = config.number("hidden_size"), config.number("num_attention_heads")
    head_dim = config.number("head_dim", d_model // n_heads)
    usual: dict[str, Callable[[], Any]] = {
        "activation": lambda: config.activation("hidden_act", "silu"),
        "norm_eps": lambda: config.number("rms_norm_eps", 1e-6, float),
        **dict.fromkeys(("bias_qkv", "bias_o"), lambda: config.flag("attention_bias", False)),
        "bias_mlp": lambda: config.flag("mlp_bias", False),
    }
    # Only the family's own keys are read: a key of another family is left over, and reported.
    given = {field: read() for field, read in usual.items() if field not in fields}
    return Spec(
        n_layers=config.number("num_hidden_layers"),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=config.number("num_key_value_heads", n_heads),
        head_dim=head_dim,
        d_mlp=config.number("intermediate_size"),
        vocab=config.number("vocab_size"),
        tied=config.flag("tie_word_embeddings", tied),
        **rope(config, head_dim, base, part),
        **given,
        **fields,
    )
