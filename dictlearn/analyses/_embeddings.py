"""The tokens that a latent reads: products of its encoder row with the embeddings of all tokens.

    score_vi = <n(E_v), w_i>         n: the norm before the tap, exact for each token

It is what the embedding alone adds to the pre-activation: positions, and what the layers before the tap write,
are left out. `mlp_in.L` and `attn_in.L` have it, and the taps of the residual stream, where n is nothing.

Source: the de-embedding of Dunefsky et al. 2024 (arXiv:2406.11944).
Axes: as in `dictlearn.types`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.lm import LM
from dictlearn.lm.spec import Spec

_STREAM = ("embed", "resid_mid", "resid")
_BLOCK = 4096


def as_read(lm: LM, tap: str) -> np.ndarray | None:
    """The embedding of every token as a tap has it.

    Args:
        lm: the language model.
        tap: the tap.

    Returns:
        `[V, D]`; None for a model that is no decoder, and for a tap that does not read the residual stream.
    """
    if not isinstance(lm.spec, Spec):
        return None
    embed_VD = lm.params["embed_VD"] * lm.spec.embed_scale
    name, _, layer = tap.partition(".")
    if name in _STREAM:
        return np.asarray(embed_VD, np.float32)
    if name not in ("attn_in", "mlp_in"):
        return None
    # An MLP in parallel with attention reads what attention reads.
    after = name == "mlp_in" and not lm.spec.parallel
    before = f"resid_mid.{layer}" if after else f"resid.{int(layer) - 1}" if int(layer) else "embed"
    return _between(lm, before, tap, np.asarray(embed_VD))


def _between(lm: LM, before: str, tap: str, x_VD: np.ndarray) -> np.ndarray:
    """What a tap has where the residual stream before it is x."""

    @jax.jit
    def read(params, x_BD):
        tokens_B1, edits = jnp.zeros((len(x_BD), 1), jnp.int32), {before: lambda *_: x_BD[:, None]}
        return lm.forward(params, tokens_B1, edits=edits)[1][tap][:, 0]

    starts = range(0, len(x_VD), _BLOCK)
    parts = [read(lm.params, x_VD[start : start + _BLOCK]) for start in starts]
    return np.concatenate([np.asarray(part, np.float32) for part in parts])
