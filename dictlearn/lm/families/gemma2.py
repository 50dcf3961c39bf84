"""Gemma 2: every other layer slides, scores and logits are capped.

Source: arXiv:2408.00118; for what no key of a GGUF file says, llama.cpp's reader.
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gemma import POST_NORMED as NAMES
from dictlearn.lm.families._gemma import sliding_gguf, sliding_spec
from dictlearn.lm.families._gguf import Architecture
from dictlearn.lm.spec import Spec

__all__ = ["GGUF", "NAMES", "spec"]

GGUF = Architecture("gemma2", lambda meta: sliding_gguf(meta, every=2, large=46))


def spec(config: Config) -> Spec:
    attn_cap = config.maybe("attn_logit_softcapping", 50.0)
    return sliding_spec(config, every=2, attn_cap=attn_cap, logit_cap=30.0)
