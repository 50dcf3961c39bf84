"""A loaded language model: parameters, tokenizer, forward pass and source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from dictlearn.lm import vocabulary


@dataclass(frozen=True)
class LM:
    """A language model. `separator` is the token put between documents. `source` says what it was
    read from: names of files and their sha256. `forward(params, tokens_BT, edits=None,
    mask_BT=None, freeze=())` is `decoder.forward` with the spec filled in."""

    name: str
    spec: Any
    params: Mapping[str, Any]
    tokenizer: Tokenizer
    separator: int
    source: Mapping[str, str]
    forward: Callable

    def check_tokens(self, tokens: Any, where: str) -> None:
        """Raises ValueError for a token that the embedding has no row for; `where` says whose it is."""
        vocabulary.check(tokens, self.spec.vocab, where, self.tokenizer)
