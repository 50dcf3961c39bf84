"""Qwen 3: Llama with norms of the queries and the keys of each head.

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
    """Reads the hyperparameters of a Qwen 3.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range.
    """
    return qwen_spec(config, qk_norm=True)
