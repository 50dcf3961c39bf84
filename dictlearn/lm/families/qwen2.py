"""Qwen 2 and 2.5: Llama with biases of queries, keys and values.

Source: arXiv:2407.10671.
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gguf import Architecture
from dictlearn.lm.families._llama import NAMES
from dictlearn.lm.families._qwen import qwen_spec
from dictlearn.lm.spec import Spec

__all__ = ["GGUF", "NAMES", "spec"]

GGUF = Architecture("qwen2", lambda meta: {"bias_qkv": True})


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a Qwen 2 or 2.5.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range.
    """
    return qwen_spec(config, bias_qkv=True)
