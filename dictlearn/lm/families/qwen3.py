"""Qwen 3: Llama with norms of each query's and key's head.

Source: arXiv:2505.09388.
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gguf import Architecture
from dictlearn.lm.families._llama import NAMES
from dictlearn.lm.families._qwen import qwen_spec
from dictlearn.lm.spec import Spec

__all__ = ["GGUF", "NAMES", "spec"]

GGUF = Architecture("qwen3", lambda meta: {"qk_norm": True})


def spec(config: Config) -> Spec:
    return qwen_spec(config, qk_norm=True)
