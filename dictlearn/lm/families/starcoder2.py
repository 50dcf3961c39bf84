"""StarCoder 2: Llama with layer norms, biases, and GELU without a gate. It may slide, which GGUF files do not
state.

Source: arXiv:2402.19173.
"""

from typing import Any

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gguf import Architecture
from dictlearn.lm.families._llama import BLOCK, llama_spec
from dictlearn.lm.families._llama import NAMES as LLAMA
from dictlearn.lm.families._names import layered, pair
from dictlearn.lm.families._plain import PLAIN
from dictlearn.lm.spec import Spec

_MLP = pair("up", "DM", "mlp.c_fc") | pair("down", "MD", "mlp.c_proj")
NAMES = LLAMA._replace(block=layered(BLOCK | _MLP))
GGUF = Architecture("starcoder2", lambda meta: PLAIN | {"activation": "gelu_tanh"})


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a StarCoder 2.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range, and for another kind of MLP or norm.
    """
    config.only("mlp_type", "default")
    config.only("norm_type", "layer_norm")
    bias, window = config.flag("use_bias", True), config.maybe("sliding_window", None, int)
    fields: dict[str, Any] = dict.fromkeys(("bias_qkv", "bias_o", "bias_mlp"), bias)
    fields["sliding_layers"] = tuple(range(config.number("num_hidden_layers"))) if window else ()
    return llama_spec(
        config,
        tied=True,
        activation=config.activation("hidden_act", "gelu_pytorch_tanh"),
        norm_eps=config.number("norm_epsilon", 1e-5, float),
        window=window,
        **(PLAIN | fields),
    )
