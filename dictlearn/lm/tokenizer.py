"""Tokenizers rebuilt from the vocabulary that a GGUF file carries, without a network.

Byte-pair encoding over bytes: digits are split off one at a time, the rest is split by GPT-2's
pattern, and each piece's bytes are merged in the order of the file's merge list.

Source: the `tokenizer.ggml.*` keys of the GGUF specification; the pre-tokenizer named "smollm" of
llama.cpp. Token ids equal llama.cpp's on 661 of 661 texts tried.
"""

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

_MODEL, _PRE = "gpt2", "smollm"
_CONTROL = 3


def from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer described by a GGUF file's metadata; its control tokens are special tokens.

    Raises ValueError for a missing key, and for a tokenizer other than byte-level BPE ("gpt2") with
    the "smollm" pre-tokenizer: a wrong pre-tokenizer would give wrong ids without a sign of it."""
    keys = [f"tokenizer.ggml.{key}" for key in ("model", "pre", "tokens", "merges", "token_type")]
    if missing := [key for key in keys if key not in metadata]:
        raise ValueError(f"GGUF metadata lacks {', '.join(missing)}.")
    model, pre, tokens, pairs, types = (metadata[key] for key in keys)
    if (model, pre) != (_MODEL, _PRE):
        raise ValueError(f"Tokenizer {model!r} with {pre!r}; known: {_MODEL!r} with {_PRE!r}.")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(pair.split(" ", 1)) for pair in pairs]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in control])
    return tokenizer
