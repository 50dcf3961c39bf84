"""GPT-2: learned positions, layer norms, GELU without a gate.

Source: Radford et al. 2019.
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gguf import Architecture
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
            **qkv(*["attn.c_attn"] * 3),
            **pair("o", "HD", "attn.c_proj"),
            **norm("mlp_norm", "ln_2"),
            **pair("up", "DM", "mlp.c_fc"),
            **pair("down", "MD", "mlp.c_proj"),
        },
        "h",
    ),
    fused="parts",
    conv=True,
    unused=("attn.bias", "attn.masked_bias"),
)
GGUF = Architecture(
    "gpt2",
    lambda meta: PLAIN | {"activation": "gelu_tanh", "positions": meta.number("context_length")},
    fused=True,
)


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a GPT-2.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range.
    """
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
        **PLAIN,
    )
