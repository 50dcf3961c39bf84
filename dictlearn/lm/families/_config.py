"""A `config.json`, whose values are checked as they are read."""

import math
from collections.abc import Mapping
from typing import Any

ACTIVATIONS = {
    **{"silu": "silu", "swish": "silu", "gelu": "gelu"},
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), "gelu_tanh"),
}
"""Hugging Face's name of an activation -> ours."""
_REFUSED = (
    *("alibi", "num_local_experts", "num_experts", "quantization_config", "add_cross_attention"),
    *("scale_attn_by_inverse_layer_idx", "use_bidirectional_attention"),
)
"""Keys that stand for something no forward pass here does, where they hold anything but nothing."""


class Config:
    """A `config.json`. Every reader raises ValueError, naming the key and its value."""

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
        if value not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"config.json: {key} is {value!r}; known: {known}.")
        return ACTIVATIONS[value]

    def only(self, key: str, value: Any) -> None:
        """Refuses any value of a key but this one, which is also what nothing means."""
        if (found := self.values.get(key, value)) != value:
            raise ValueError(f"config.json: {key} is {found!r}; only {value!r} is known.")

    def refuse_unsupported(self) -> None:
        for key in _REFUSED:
            if self.values.get(key):
                raise ValueError(
                    f"config.json: {key} is {self.values[key]!r}, which is not supported."
                )
