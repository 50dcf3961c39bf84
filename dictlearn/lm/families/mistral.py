"""Mistral: Llama with a sliding window in every layer. llama.cpp writes it as a llama, without the window.

Source: Jiang et al. 2023 (arXiv:2310.06825).
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._llama import NAMES, llama_spec
from dictlearn.lm.families._windows import sliding_layers
from dictlearn.lm.spec import Spec

__all__ = ["NAMES", "spec"]


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a Mistral; every layer slides.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range.
    """
    window = config.maybe("sliding_window", 4096, int)
    sliding = sliding_layers(config, lambda layer: True) if window else ()
    return llama_spec(config, window=window, sliding_layers=sliding)
