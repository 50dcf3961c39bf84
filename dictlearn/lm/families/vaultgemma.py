"""VaultGemma: Gemma 2 without the norms after attention and MLP.

Source: arXiv:2510.15001.
"""

from dictlearn.lm.families._config import Config
from dictlearn.lm.families._gemma import PRE_NORMED, sliding_spec
from dictlearn.lm.spec import Spec

_MLP_NORM = {"mlp_norm_D": "layers.{}.pre_feedforward_layernorm.weight"}
NAMES = PRE_NORMED._replace(block={**PRE_NORMED.block, **_MLP_NORM})


def spec(config: Config) -> Spec:
    """Reads the hyperparameters of a VaultGemma.

    Args:
        config: its `config.json`.

    Returns:
        A Spec.

    Raises:
        ValueError: for a value that is missing or out of range.
    """
    attn_cap = config.maybe("attn_logit_softcapping", 50.0)
    return sliding_spec(config, every=2, logit_cap=30.0, post_norms=False, attn_cap=attn_cap)
