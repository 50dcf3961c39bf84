"""The settings that GPT-2 shares with similar models: layer norms, an MLP without a gate, biases everywhere."""

from typing import Any

PLAIN: dict[str, Any] = {
    **{"norm": "layer", "gated": False},
    **{"bias_qkv": True, "bias_o": True, "bias_mlp": True},
}
