"""Families of language models: one file each, named as `model_type` in Hugging Face's `config.json` is.

A file has `spec(config) -> Spec`, the hyperparameters that a `config.json` states, and `NAMES`, what the
family's tensors are called. It may have `GGUF`, how llama.cpp states the same; `SMALL`, what transformers'
configuration class needs beyond sizes to make a small model, for the conformance suite; and `forward`, where
the forward pass is not `decoder.forward`: the spec is then a class of its own, of `spec.Shaped`. What
families share is in the files with a leading underscore.

Source: the configuration and modelling files of transformers; a key that a file leaves out has the value
that its family's configuration class gives it.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from dictlearn.lm import decoder
from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gguf import Architecture, Metadata
from dictlearn.lm.leftover import tell
from dictlearn.lm.names import Names
from dictlearn.lm.spec import Shaped

__all__ = [
    "Architecture",
    "Metadata",
    "architectures",
    "forward",
    "gguf",
    "names",
    "small",
    "spec_from_config",
    "tensor_names",
]


def names() -> list[str]:
    """The families there are: the files here without a leading underscore."""
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in files if name[0] != "_")


def spec_from_config(values: Mapping[str, Any]) -> Shaped:
    """The hyperparameters that a Hugging Face `config.json` states: a `Spec`, for a decoder.

    Raises ValueError for another family, for a value that is missing or out of range, and for what the
    forward pass does not do (experts, ALiBi, other rope types, quantised weights). Keys that nothing reads
    are told, but for those that no output depends on (`_idle`)."""
    family = _module(values.get("model_type"))
    config = Config(values)
    config.refuse_unsupported()
    spec = family.spec(config)
    tell("config.json", config.left())
    return spec


def tensor_names(name: str) -> Names:
    """What the tensors of a family's files are called."""
    return _module(name).NAMES


def forward(name: str) -> Callable:
    """The forward pass of a family, of (spec, params, tokens_BT, edits, mask_BT, ...)."""
    return getattr(_module(name), "forward", decoder.forward)


def small(name: str) -> Mapping[str, Any]:
    """What a small model of a family needs to state beyond its sizes."""
    return getattr(_module(name), "SMALL", {})


def architectures() -> dict[str, Architecture]:
    """`general.architecture` of a GGUF file -> how it states the family."""
    return {one.name: one for name in names() if (one := gguf(name))}


def gguf(name: str) -> Architecture | None:
    """How a family is stated in GGUF files; None where llama.cpp does not know it by a name of its own."""
    return getattr(_module(name), "GGUF", None)


def _module(name: Any) -> ModuleType:
    if name not in names():
        raise ValueError(f"config.json: model_type {name!r}; known: {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")
