"""Ministral: Mistral with a file that states which layers slide.

Source: the model card of Ministral 8B (2024).
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._llama import NAMES, llama_spec
from dictlearn.lm.families._windows import sliding_layers
from dictlearn.lm.spec import Spec

__all__ = ["NAMES", "spec"]


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a Ministral.

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
