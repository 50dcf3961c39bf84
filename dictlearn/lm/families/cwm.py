"""Code World Model: Llama with sliding windows in three layers of four.

Source: arXiv:2510.02387.
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._llama import NAMES, llama_spec
from dictlearn.lm.families._windows import sliding_layers
from dictlearn.lm.spec import Spec

__all__ = ["NAMES", "spec"]


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a Code World Model; by default, three layers in four slide.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range.
    """
    window = config.number("sliding_window", 8192)
    sliding = sliding_layers(config, lambda layer: layer % 4 > 0)
    return llama_spec(config, base=1e6, window=window, sliding_layers=sliding)
