"""GPT-NeoX and Pythia: attention and MLP in parallel, rotary positions on a part of each head.

Source: Black et al. 2022 (arXiv:2204.06745).
"""

from typing import Any

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gguf import Architecture
from dictlearn.lm.families._names import layered, norm, pair, qkv
from dictlearn.lm.families._plain import PLAIN
from dictlearn.lm.families._rope import rope
from dictlearn.lm.names import FREQUENCIES, Names
from dictlearn.lm.spec import Spec

NAMES = Names(
    prefixes=("gpt_neox.", ""),
    outer={"embed_VD": "embed_in.weight", **norm("norm", "final_layer_norm")},
    block=layered(
        {
            **norm("attn_norm", "input_layernorm"),
            **qkv(*["attention.query_key_value"] * 3),
            **pair("o", "HD", "attention.dense"),
            **norm("mlp_norm", "post_attention_layernorm"),
            **pair("up", "DM", "mlp.dense_h_to_4h"),
            **pair("down", "MD", "mlp.dense_4h_to_h"),
        }
    ),
    unembed=("embed_out.weight", "lm_head.weight"),
    fused="heads",
    unused=(FREQUENCIES, "attention.bias", "attention.masked_bias"),
)
GGUF = Architecture(
    "gptneox",
    lambda meta: (
        PLAIN | {"activation": "gelu", "parallel": bool(meta.get("use_parallel_residual", True))}
    ),
    rope_base=1e4,
    fused=True,
)


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a GPT-NeoX or a Pythia.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range.
    """
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
        **rope(config, head_dim, part=0.25),
        **(PLAIN | biases),
    )
