"""Gemma 2: every second layer slides; attention scores and logits are capped.

Source: arXiv:2408.00118; where no key of a GGUF file states a value, llama.cpp's reader.
"""

from typing import Any

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gemma import POST_NORMED as NAMES
from dictlearn.lm.families._gemma import sliding_gguf, sliding_spec
from dictlearn.lm.families._gguf import Architecture, Metadata
from dictlearn.lm.spec import Spec

__all__ = ["GGUF", "NAMES", "spec"]


def _stated(meta: Metadata) -> dict[str, Any]:
    caps = {
        "attn_cap": ("attn_logit_softcapping", 50.0),
        "logit_cap": ("final_logit_softcapping", 30.0),
    }
    stated = {field: meta.number(key, float, usual) for field, (key, usual) in caps.items()}
    return sliding_gguf(meta, every=2, large=46, window=4096) | stated


GGUF = Architecture("gemma2", _stated)


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a Gemma 2; every second layer slides unless the file states otherwise.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range.
    """
    attn_cap = config.maybe("attn_logit_softcapping", 50.0)
    return sliding_spec(config, every=2, attn_cap=attn_cap, logit_cap=30.0)
