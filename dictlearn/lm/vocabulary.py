"""Token ids are rows of the embedding: an id that has none is refused, wherever tokens enter.

A lookup outside an array has no error on a device: it reads the last row. So ids are looked at on the host,
once, before they are sent there; inside a compiled program they are not.
"""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from tokenizers import Tokenizer


def check(tokens: Any, vocab: int, where: str, tokenizer: Tokenizer | None = None) -> None:
    """Raises ValueError for an id outside 0..vocab - 1, naming it, its text, and `where` it came from.

    tokens: integers of any shape. vocab: rows of the model's embedding. Ids that a compiled program or other
    processes hold are not looked at."""
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
        f" embedding has {vocab} rows, 0..{vocab - 1}; take the tokenizer that the model was trained with, or"
        " leave out what it makes that token of."
    )


def _text(tokenizer: Tokenizer | None, token: int) -> str:
    found = tokenizer.id_to_token(token) if tokenizer is not None and token >= 0 else None
    return "" if found is None else f" ({found!r})"
