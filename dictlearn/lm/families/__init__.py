"""Families of language models: one file each, named like `model_type` in Hugging Face's `config.json`.

A file exports

    spec(config)    the hyperparameters in a `config.json`, as a `Spec`
    NAMES           the names of the family's tensors
    GGUF            optional: the family in GGUF files, where llama.cpp has it under its own name
    SMALL           optional: keys that transformers' config class needs for a small model, beyond its sizes
    forward         optional: a forward pass other than `decoder.forward`; the spec is then its own class

Shared code is in the files with a leading underscore.

Source: the configuration and modelling files of transformers; a key that a file leaves out has the default of
its family's configuration class.
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
    """The names of all families: the files of this folder without a leading underscore.

    Returns:
        The names in alphabetical order.

    Example:
        >>> {"llama", "gpt2", "qwen3"} <= set(names())
        True
    """
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in files if name[0] != "_")


def spec_from_config(values: Mapping[str, Any]) -> Shaped:
    """Reads the hyperparameters of a model from its Hugging Face `config.json`.

    A warning names the keys that nothing reads, except those that do not affect outputs (`_idle`).

    Args:
        values: the content of the file.

    Returns:
        A `Spec` for a decoder, a `BertSpec` for a BERT.

    Raises:
        ValueError: for an unknown family, a value that is missing or out of range, and a feature that the
            forward pass does not have (experts, ALiBi, other rope types, quantised weights).

    Example:
        >>> sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3}
        >>> config = {"model_type": "llama", "intermediate_size": 16, "vocab_size": 32, **sizes}
        >>> spec_from_config(config).n_layers
        3
    """
    family = _module(values.get("model_type"))
    config = Config(values)
    config.refuse_unsupported()
    spec = family.spec(config)
    tell("config.json", config.left())
    return spec


def tensor_names(name: str) -> Names:
    """The names of the tensors in the files of a family.

    Args:
        name: a family, of `names()`.

    Returns:
        A Names.

    Raises:
        ValueError: for an unknown family.

    Example:
        >>> tensor_names("llama").outer["embed_VD"]
        'embed_tokens.weight'
    """
    return _module(name).NAMES


def forward(name: str) -> Callable:
    """The forward pass of a family.

    Args:
        name: a family, of `names()`.

    Returns:
        A function of (spec, params, tokens_BT, edits, mask_BT, ...).

    Raises:
        ValueError: for an unknown family.

    Example:
        >>> forward("llama") is decoder.forward
        True
    """
    return getattr(_module(name), "forward", decoder.forward)


def small(name: str) -> Mapping[str, Any]:
    """The keys that a config of a small model needs beyond its sizes.

    Args:
        name: a family, of `names()`.

    Returns:
        {key: value}, empty for most families.

    Raises:
        ValueError: for an unknown family.

    Example:
        >>> dict(small("llama"))
        {}
    """
    return getattr(_module(name), "SMALL", {})


def architectures() -> dict[str, Architecture]:
    """All architectures of GGUF files that can be read.

    Returns:
        {`general.architecture` of a file: the family in GGUF files}.

    Example:
        >>> "llama" in architectures()
        True
    """
    return {one.name: one for name in names() if (one := gguf(name))}


def gguf(name: str) -> Architecture | None:
    """A family in GGUF files.

    Args:
        name: a family, of `names()`.

    Returns:
        An Architecture; None if llama.cpp does not have the family under its own name.

    Raises:
        ValueError: for an unknown family.

    Example:
        >>> gguf("gpt_neo") is None
        True
    """
    return getattr(_module(name), "GGUF", None)


def _module(name: Any) -> ModuleType:
    if name not in names():
        raise ValueError(f"config.json: model_type {name!r}; known: {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")
