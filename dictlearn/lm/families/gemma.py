"""Gemma, the first: Llama with a scaled embedding, a gelu, wide heads, and gains stored less one.

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
    # "gelu" has meant the approximation here since the first files were published.
    stated = config.values.get("hidden_act")
    activation = "gelu_pytorch_tanh" if stated == "gelu" else stated
    return gemma_spec(Config({**config.values, "hidden_activation": activation}))
