"""Gemma 1: Llama with a scaled embedding, GELU, wide heads, and gains stored minus one.

Source: arXiv:2403.08295.
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gemma import PRE_NORMED as NAMES
from dictlearn.lm.families._gemma import gemma_gguf, gemma_spec
from dictlearn.lm.families._gguf import Architecture
from dictlearn.lm.spec import Spec

__all__ = ["GGUF", "NAMES", "spec"]

GGUF = Architecture("gemma", gemma_gguf, rope_base=1e4)


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a Gemma 1.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range, and for two activations that contradict each
            other.
    """
    # "gelu" has meant the approximation here since the first files were published.
    read = lambda key: "gelu_pytorch_tanh" if config.get(key) == "gelu" else config.get(key)
    old, new = read("hidden_act"), read("hidden_activation")
    if old and new and old != new:
        raise ValueError(f"config.json: hidden_act is {old!r}, and hidden_activation is {new!r}.")
    return gemma_spec(config.instead(hidden_activation=old))
