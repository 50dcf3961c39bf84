"""The text of tokens, one by one: tokens that spell characters only together are one cell.

A byte-level token may end inside a character; its bytes alone are not text.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer

TORN = "\N{REPLACEMENT CHARACTER}"
_MOST_BYTES = 4  # of a character in UTF-8, so a torn cell never needs more tokens


def group(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[tuple[str, slice]]:
    """(text, tokens) of each cell, in order. Bytes that are not text become U+FFFD."""
    found, start = [], 0
    for stop in range(1, len(tokens) + 1):
        text = decode(tokenizer, tokens[start:stop])
        torn = text.endswith(TORN) and stop - start < _MOST_BYTES and stop < len(tokens)
        if not torn:
            found.append((text, slice(start, stop)))
            start = stop
    return found


def decode(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """The text of tokens, special ones too."""
    return tokenizer.decode(list(tokens), skip_special_tokens=False)
