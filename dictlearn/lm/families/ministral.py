"""Ministral: Mistral, whose file states which layers slide.

Source: the model card of Ministral 8B (2024).
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._llama import NAMES, llama_spec
from dictlearn.lm.families._windows import sliding_layers
from dictlearn.lm.spec import Spec

__all__ = ["NAMES", "spec"]


def spec(config: Config) -> Spec:
    window = config.maybe("sliding_window", 4096, int)
    sliding = sliding_layers(config, lambda layer: True) if window else ()
    return llama_spec(config, window=window, sliding_layers=sliding)
