"""Families in the GGUF files of llama.cpp."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dictlearn.lm import gguf
from dictlearn.lm.leftover import tell

_IDLE_ROOMS = ("general.", "tokenizer.", "quantize.", "imatrix.", "split.")
_IDLE = (
    *("context_length", "vocab_size", "rope.scaling.original_context_length"),
    *("rope.scaling.finetuned", "rope.dimension_count"),
)
"""Keys of an architecture that do not affect outputs, or that repeat what the tensors state."""
_REFUSED = (
    *("attention.", "rope.", "expert_", "ssm.", "wkv.", "altup.", "attn_logit_", "final_logit_"),
    *("logit_scale", "residual_scale", "embedding_scale", "use_parallel_residual", "swin_norm"),
)
"""Prefixes of keys that change the function of the model."""


class Metadata:
    """The metadata of a GGUF file, whose values are checked when they are read.

    Args:
        values: the metadata.
        tensors: the tensors of the file.

    Example:
        >>> Metadata({"general.architecture": "llama", "llama.block_count": 2}, {}).number("block_count")
        2
    """

    def __init__(self, values: Mapping[str, Any], tensors: Mapping[str, gguf.Tensor]):
        self.values, self.tensors = values, tensors
        self.architecture = str(values.get("general.architecture"))
        self._read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self._read.add(key)
        return self.values.get(f"{self.architecture}.{key}", default)

    def number(self, key: str, kind: type = int, default: float | int | None = None) -> Any:
        value = self.get(key, default)
        right = isinstance(value, int | kind) and not isinstance(value, bool)
        if not right or not 0 < value < math.inf:
            raise ValueError(
                f"GGUF metadata {self.architecture}.{key} is {value!r}, not a positive"
                f" {kind.__name__}."
            )
        return value

    def maybe(self, key: str) -> float | None:
        """A number; None if the key is missing or zero, which llama.cpp treats as missing."""
        return self.number(key, float) if self.get(key) else None

    def only(self, key: str, value: Any, way_out: str) -> None:
        """Refuses any value but this one, the default, of a key that belongs to no architecture."""
        if (found := self.values.get(key, value)) != value:
            raise ValueError(f"GGUF metadata {key} is {found!r}; only {value!r} is read: {way_out}")

    def refuse_left(self) -> None:
        """Refuses unread keys that change the model's function, by name; warns of the others."""
        prefix, told = f"{self.architecture}.", {}
        for name, value in self.values.items():
            key = name.removeprefix(prefix)
            if name.startswith(_IDLE_ROOMS) or key in self._read or _is_nothing(key, value):
                continue
            if name.startswith(prefix) and key.startswith(_REFUSED):
                raise ValueError(
                    f"GGUF metadata {name} is {value!r}, which no forward pass here does for"
                    f" {self.architecture!r}; load the model's Hugging Face folder, or drop the key"
                    " where it is idle (gguf_new_metadata.py of llama.cpp)."
                )
            told[name] = value
        tell("GGUF metadata", told)


def _is_nothing(key: str, value: Any) -> bool:
    """Whether a key does not affect outputs, or its value leaves the function unchanged."""
    if key == "attention.causal":
        return bool(value)
    neutral = value in (0, 1) if key.endswith(("_scale", "_factor")) else not value
    return key in _IDLE or neutral


class Architecture(NamedTuple):
    """A family in GGUF files.

    Args:
        name: its `general.architecture`.
        fields: fields of the `Spec` that keys do not state in the same way for all families.
        rope_base: the default rotary base; None if the file must state it.
        fused: whether queries, keys and values are one tensor, concatenated.
        interleaved: whether the rotary pairs of queries and keys are the dimensions (2i, 2i + 1) of a head.

    Example:
        >>> Architecture("gemma", lambda meta: {}, rope_base=1e4).fused
        False
    """

    name: str
    fields: Callable[[Metadata], Mapping[str, Any]]
    rope_base: float | None = None
    fused: bool = False
    interleaved: bool = False
