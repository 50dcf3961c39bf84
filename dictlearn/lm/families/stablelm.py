"""StableLM: Llama with layer norms, and rotary positions on a quarter of each head.

Source: arXiv:2402.17834.
Differs: parallel blocks and norms of each head (StableLM 2 12B) are refused.
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._llama import NAMES, llama_spec
from dictlearn.lm.spec import Spec

__all__ = ["NAMES", "spec"]


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a StableLM.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range, and for parallel blocks and norms per head.
    """
    config.only("use_parallel_residual", False)
    config.only("qk_layernorm", False)
    return llama_spec(
        config,
        part=0.25,
        norm="layer",
        norm_eps=config.number("layer_norm_eps", 1e-5, float),
        bias_qkv=config.flag("use_qkv_bias", False),
    )
