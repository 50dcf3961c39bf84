"""The language model of Gemma 3: five layers in six slide, with their own rotary base. Queries and keys are
normalised, and scores are not capped.

Source: arXiv:2503.19786; where no key of a GGUF file states a value, llama.cpp's reader.
"""

from typing import Any

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gemma import POST_NORMED as NAMES
from dictlearn.lm.families._gemma import sliding_gguf, sliding_spec
from dictlearn.lm.families._gguf import Architecture, Metadata
from dictlearn.lm.spec import Spec

__all__ = ["GGUF", "NAMES", "SMALL", "spec"]

SMALL = {
    "layer_types": ["sliding_attention", "full_attention"],
    "attn_logit_softcapping": None,
}


def _stated(meta: Metadata) -> dict[str, Any]:
    local = meta.number("rope.freq_base_swa", float, 1e4)
    stated = {"local_rope_base": local, "logit_cap": meta.maybe("final_logit_softcapping")}
    return sliding_gguf(meta, every=6, large=62) | {"qk_norm": True} | stated


GGUF = Architecture("gemma3", _stated)


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of the language model of a Gemma 3.

    By default, five layers in six slide.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range, and for capped attention scores.
    """
    config.only("attn_logit_softcapping", None)
    if config.get("rope_local_base_freq") is None and config.get("rope_parameters") is None:
        config = config.instead(rope_local_base_freq=1e4)
    return sliding_spec(config, every=6, logit_cap=None, base=1e6, qk_norm=True)
