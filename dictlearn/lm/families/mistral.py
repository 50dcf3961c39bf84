"""Mistral: Llama, every layer of which slides. llama.cpp writes it as a llama, without the window.

Source: Jiang et al. 2023 (arXiv:2310.06825).
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
