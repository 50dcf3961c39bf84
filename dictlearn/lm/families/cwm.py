"""Code World Model: Llama, of which three layers in four slide.

Source: arXiv:2510.02387.
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._llama import NAMES, llama_spec
from dictlearn.lm.families._windows import sliding_layers
from dictlearn.lm.spec import Spec

__all__ = ["NAMES", "spec"]


def spec(config: Config) -> Spec:
    window = config.number("sliding_window", 8192)
    sliding = sliding_layers(config, lambda layer: layer % 4 > 0)
    return llama_spec(config, base=1e6, window=window, sliding_layers=sliding)
