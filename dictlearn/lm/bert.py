"""Sentence encoders: one vector for each text, from a loaded BERT.

Source: Reimers and Gurevych 2019 (arXiv:1908.10084), mean over tokens, made unit length; MiniLM of
Wang et al. 2020 (arXiv:2002.10957). The model itself is in `bert_model`.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dictlearn.lm.bert_model import BertSpec, forward
from dictlearn.lm.model import LM

__all__ = ["BertSpec", "embed_sentences", "forward", "pool"]

_STEP = 32


def pool(
    output_BTD: Float[Array, "B T D"], mask_BT: Bool[Array | np.ndarray, "B T"]
) -> Float[Array, "B D"]:
    """Averages the output of an encoder over the tokens that are not padding, and scales it to unit length.

    Args:
        output_BTD: the output of the encoder.
        mask_BT: False at padding.

    Returns:
        One float32 unit vector for each sequence.

    Example:
        >>> pool(jnp.array([[[3.0, 4.0], [9.0, 9.0]]]), jnp.array([[True, False]]))
        Array([[0.6, 0.8]], dtype=float32)
    """
    kept_BT1 = jnp.asarray(mask_BT, jnp.float32)[..., None]
    mean_BD = (output_BTD * kept_BT1).sum(axis=1) / jnp.maximum(kept_BT1.sum(axis=1), 1)
    return mean_BD / jnp.maximum(jnp.linalg.norm(mean_BD, axis=-1, keepdims=True), 1e-12)


def embed_sentences(
    lm: LM, texts: Sequence[str], *, max_tokens: int = 256, batch: int = 32
) -> Float[np.ndarray, "n D"]:
    """Encodes texts as vectors of unit length: `pool` of the encoder's output.

    Args:
        lm: a loaded BERT, such as `lm.load("minilm")`.
        texts: the texts.
        max_tokens: texts are cut to this number of tokens, including the two special ones. MiniLM was trained
            on up to 256.
        batch: the number of texts in a forward pass; texts of similar length run together.

    Returns:
        One float32 vector for each text.

    Raises:
        ValueError: for `max_tokens` or `batch` out of range, and for a token without a row in the embedding.

    Example:
        >>> from dictlearn.lm.spec import build, shape_of
        >>> from dictlearn.lm.tokenizer import trained
        >>> spec = BertSpec(n_layers=1, d_model=4, n_heads=1, d_mlp=8, vocab=300, n_positions=32)
        >>> params = build(spec, lambda leaf, layer: jnp.ones(shape_of(spec, leaf)))
        >>> lm = LM("mine", spec, params, trained(["a b"], 300), 0, {}, functools.partial(forward, spec))
        >>> embed_sentences(lm, ["a", "a b"], max_tokens=32).shape
        (2, 4)
    """
    spec: BertSpec = lm.spec
    if not 2 <= max_tokens <= spec.n_positions or batch < 1:
        raise ValueError(f"{max_tokens=} is not in 2..{spec.n_positions}, or {batch=} is below 1.")
    encoded = [_cut(one.ids, max_tokens) for one in lm.tokenizer.encode_batch_fast(list(texts))]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    vectors = np.zeros((len(encoded), spec.d_model), np.float32)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        tokens_BT, mask_BT = _padded([encoded[i] for i in chosen], batch, spec.n_positions)
        lm.check_tokens(tokens_BT, "texts")
        vectors[chosen] = _vectors(spec, lm.params, tokens_BT, mask_BT)[: len(chosen)]
    return vectors


def _cut(ids: list[int], max_tokens: int) -> list[int]:
    """The first tokens, and the last token, which ends the sequence."""
    return ids if len(ids) <= max_tokens else [*ids[: max_tokens - 1], ids[-1]]


def _padded(
    ids: list[list[int]], batch: int, n_positions: int
) -> tuple[Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
    """Pads sequences to a multiple of `_STEP`, so that few programs are compiled."""
    length = min(n_positions, -(-max(map(len, ids)) // _STEP) * _STEP)
    tokens_BT, mask_BT = np.zeros((batch, length), np.int32), np.zeros((batch, length), bool)
    for row, one in enumerate(ids):
        tokens_BT[row, : len(one)], mask_BT[row, : len(one)] = one, True
    return tokens_BT, mask_BT


@functools.partial(jax.jit, static_argnums=0)
def _vectors(spec, params, tokens_BT, mask_BT):
    return pool(forward(spec, params, tokens_BT, mask_BT=mask_BT)[0], mask_BT)
