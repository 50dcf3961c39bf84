"""Checks token ids on the host: an id without a row in the embedding is an error wherever tokens enter.

On a device, a lookup outside an array is no error: it reads the last row. So ids are checked once, before they
are sent there. Inside a compiled program they are not checked.
"""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from tokenizers import Tokenizer


def check(tokens: Any, vocab: int, where: str, tokenizer: Tokenizer | None = None) -> None:
    """Checks that token ids are in 0..vocab - 1.

    Ids in a compiled program or on other processes are not checked.

    Args:
        tokens: integers of any shape.
        vocab: the number of rows of the embedding.
        where: the origin of the tokens, for the message.
        tokenizer: decodes the token for the message; None for no text.

    Raises:
        ValueError: for an id out of range; the message has the id, its text and its origin.
    """
    if isinstance(tokens, Tracer):
        return
    if isinstance(tokens, jax.Array) and not tokens.is_fully_addressable:
        return
    ids = np.asarray(tokens)
    if not ids.size or (ids.min() >= 0 and ids.max() < vocab):
        return
    outside = int(ids[(ids < 0) | (ids >= vocab)].flat[0])
    raise ValueError(
        f"{where}: token {outside}{_text(tokenizer, outside)} is outside the vocabulary of the model, whose"
        f" embedding has {vocab} rows, 0..{vocab - 1}; use the tokenizer that the model was trained with, or"
        " leave out the text of that token."
    )


def _text(tokenizer: Tokenizer | None, token: int) -> str:
    found = tokenizer.id_to_token(token) if tokenizer is not None and token >= 0 else None
    return "" if found is None else f" ({found!r})"
