"""What GPT-2 and its kin have: layer norms with biases, an MLP without a gate, biases everywhere."""

from typing import Any

PLAIN: dict[str, Any] = {
    **{"norm": "layer", "gated": False},
    **{"bias_qkv": True, "bias_o": True, "bias_mlp": True},
}
