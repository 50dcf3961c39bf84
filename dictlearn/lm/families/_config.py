"""A `config.json` whose values are checked when they are read."""

import math
from collections.abc import Mapping
from typing import Any

from dictlearn.lm.families._idle import IDLE

ACTIVATIONS = {
    **{"silu": "silu", "swish": "silu", "gelu": "gelu"},
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), "gelu_tanh"),
}
"""Our name of each of Hugging Face's activations."""
_REFUSED = (
    *("alibi", "num_local_experts", "num_experts", "quantization_config", "add_cross_attention"),
    *("scale_attn_by_inverse_layer_idx", "use_bidirectional_attention", "quantization"),
    *("compression_config", "is_encoder_decoder", "pruned_heads", "cross_attention_hidden_size"),
    "rope_interleaved",
)
"""Keys of features that no forward pass here has, unless their value is empty."""


class Config:
    """A `config.json`.

    Every reader raises ValueError, naming the key and its value, and records that the key was read. `room`
    is the prefix of its keys, if it is a part of another config.
    """

    def __init__(self, values: Mapping[str, Any], room: str = ""):
        self.values, self.room = values, room
        self._read: set[str] = set()
        self._parts: list[Config] = []

    def get(self, key: str, default: Any = None) -> Any:
        self._read.add(key)
        return self.values.get(key, default)

    def part(self, key: str, **usual: Any) -> "Config":
        """An object in the config, with defaults from `usual`; empty if it is missing."""
        held = self.get(key) or {}
        if not isinstance(held, Mapping):
            raise ValueError(f"config.json: {self.room}{key} is {held!r}, not an object.")
        part = Config({**usual, **held}, f"{self.room}{key}.")
        part._read.update(usual.keys() - held.keys())
        self._parts.append(part)
        return part

    def instead(self, **values: Any) -> "Config":
        """The config with other values; these do not come from the file and need not be read."""
        other = Config({**self.values, **values}, self.room)
        self._read.update(values)
        other._read = self._read  # the same set: a key read through one counts as read in the other
        self._parts.append(other)
        return other

    def left(self) -> dict[str, Any]:
        """The keys that were not read, also in parts of the config."""
        own = {
            f"{self.room}{key}": value
            for key, value in self.values.items()
            if value is not None and key not in self._read and key not in IDLE
        }
        for part in self._parts:
            own |= part.left()
        return own

    def number(self, key: str, default: float | int | None = None, kind: type = int) -> Any:
        value: Any = self.get(key)
        value = default if value is None else value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 < value < math.inf and kind(value) == value):
            raise ValueError(f"config.json: {key} is {value!r}, not a positive {kind.__name__}.")
        return kind(value)

    def maybe(self, key: str, default: float | int | None = None, kind: type = float) -> Any:
        """A number; None if the value is null, or if the key is missing and has no default."""
        value = self.get(key, default)
        return None if value is None else self.number(key, default, kind)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise ValueError(f"config.json: {key} is {value!r}, not true or false.")
        return value

    def activation(self, key: str, default: str) -> str:
        value = self.get(key) or default
        if value not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"config.json: {key} is {value!r}; known: {known}.")
        return ACTIVATIONS[value]

    def only(self, key: str, value: Any) -> None:
        """Refuses any value of a key but this one, which is also the default."""
        if (found := self.get(key, value)) != value:
            raise ValueError(f"config.json: {key} is {found!r}; only {value!r} is known.")

    def refuse_unsupported(self) -> None:
        self.only("is_causal", True)
        for key in _REFUSED:
            if self.get(key):
                raise ValueError(
                    f"config.json: {key} is {self.get(key)!r}, which is not supported."
                )
