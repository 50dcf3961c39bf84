"""What latents of transcoders read and write by their weights alone, without a prompt.

    pullback       w_F = W_dec n                     how much each latent adds to <n, residual stream>
    through a head n' = W_V^h W_O^h n                what n reads at the token that head h attends to
    de-embedding   s_V = n(E) w_enc                  the tokens that raise a latent of an early layer

n is the direction that a latent of a later layer reads, with the gain of its norm; denominators of norms and
attention patterns are left out, because they depend on the prompt. `contributions` has them.

Source: Dunefsky et al. 2024, "Transcoders find interpretable LLM feature circuits" (arXiv:2406.11944), sections
4.1 and 4.2.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dictlearn.analyses import _embeddings, _logits
from dictlearn.circuits import _directions, _pulls
from dictlearn.circuits._places import Place, places
from dictlearn.lm.model import LM
from dictlearn.runs.atoms import atoms
from dictlearn.runs.trained import Trained

_NORMS = {"mlp_in": "mlp_norm", "attn_in": "attn_norm"}


def read_rows(lm: LM, transcoder: Trained, latents: Sequence[int]) -> Float[np.ndarray, "I D"]:
    """The directions of the residual stream that latents read: encoder rows with the gain of the norm.

    Args:
        lm: the language model.
        transcoder: a transcoder of one layer's MLP.
        latents: the latents.

    Returns:
        The directions n.

    Raises:
        ValueError: for a dictionary that is no transcoder of one layer, and for one without a linear encoder.
    """
    read, place = _single(lm, transcoder)
    rows_ID = _rows(lm, transcoder, latents)
    if read not in _NORMS:
        return rows_ID
    block = lm.params[f"block_{place.layers[0]}"]
    return _pulls.norm(lm.spec, block, _NORMS[read], rows_ID)[0]


def pullback(transcoder: Trained, row_ID: Float[np.ndarray, "I D"]) -> Float[np.ndarray, "I F"]:
    """How much each latent adds to directions of the residual stream at an activation of 1.

    Args:
        transcoder: what writes to the residual stream.
        row_ID: the directions.

    Returns:
        The products with its atoms.
    """
    return row_ID @ atoms(transcoder).T


def through_heads(
    lm: LM, layer: int, row_ID: Float[np.ndarray, "I D"]
) -> Float[np.ndarray, "I h D"]:
    """The directions that the heads of a layer read for directions after it.

    Args:
        lm: the language model.
        layer: the layer of the heads.
        row_ID: directions of the residual stream after its attention.

    Returns:
        Directions of the residual stream before the layer, at the token that each head attends to.
    """
    block = lm.params[f"block_{layer}"]
    row_Ihw, _ = _pulls.heads(lm.spec, block, row_ID)
    row_IhD, _ = _pulls.values(lm.spec, block, row_Ihw)
    return _pulls.norm(lm.spec, block, "attn_norm", row_IhD)[0]


def de_embedding(
    lm: LM, transcoder: Trained, latents: Sequence[int], n: int = 10
) -> list[list[tuple[str, float]]]:
    """The tokens whose embeddings raise each latent most.

    Args:
        lm: the language model.
        transcoder: a transcoder of one layer's MLP, as a rule of the first.
        latents: the latents.
        n: the number of tokens.

    Returns:
        For each latent [(text of the token, product)], the largest first. The norm is exact for each token.

    Raises:
        ValueError: as `read_rows`.
    """
    read, place = _single(lm, transcoder)
    embed_VD = _embeddings.as_read(lm, f"{read}.{place.layers[0]}")
    found = _logits.extremes(_rows(lm, transcoder, latents), np.asarray(embed_VD).T, n)
    pairs = zip(found.top_IK, found.top_weight_IK, strict=True)
    return [_logits.named(lm, *pair) for pair in pairs]


def _single(lm: LM, transcoder: Trained) -> tuple[str, Place]:
    read, (place,) = places(lm, [transcoder])
    if len(place.layers) > 1:
        raise ValueError(
            f"{transcoder.name!r} has layers {place.layers}; a pullback needs a transcoder of one layer."
        )
    return read, place


def _rows(lm: LM, transcoder: Trained, latents: Sequence[int]) -> np.ndarray:
    return _directions.rows(transcoder, np.asarray(latents, int), 1, lm.spec.d_model)
