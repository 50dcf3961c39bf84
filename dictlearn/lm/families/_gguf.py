"""How GGUF files of llama.cpp state a family."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dictlearn.lm import gguf


class Metadata:
    """A GGUF file's metadata, whose values are checked as they are read; `tensors` are the file's."""

    def __init__(self, values: Mapping[str, Any], tensors: Mapping[str, gguf.Tensor]):
        self.values, self.tensors = values, tensors
        self.architecture = str(values.get("general.architecture"))

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(f"{self.architecture}.{key}", default)

    def number(self, key: str, kind: type = int, default: float | int | None = None) -> Any:
        value = self.get(key, default)
        if not isinstance(value, int | kind) or not value > 0:
            raise ValueError(
                f"GGUF metadata {self.architecture}.{key} is {value!r}, not a positive"
                f" {kind.__name__}."
            )
        return value


class Architecture(NamedTuple):
    """A family in GGUF files.

    name: their `general.architecture`. fields: fields of the `Spec` that no key of all families states.
    rope_base: where the file states none; None: it must. fused: queries, keys and values are one tensor,
    side by side. interleaved: rotary pairs of queries and keys are dimensions (2i, 2i + 1) of a head."""

    name: str
    fields: Callable[[Metadata], Mapping[str, Any]]
    rope_base: float | None = None
    fused: bool = False
    interleaved: bool = False
