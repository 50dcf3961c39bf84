"""A loaded language model: parameters, tokenizer, forward pass and source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from dictlearn.lm import vocabulary


@dataclass(frozen=True)
class LM:
    """A language model.

    Args:
        name: its name.
        spec: its hyperparameters.
        params: its parameters.
        tokenizer: its tokenizer.
        separator: the token between documents.
        source: the names of its files and their sha256.
        forward: `forward(params, tokens_BT, edits=None, mask_BT=None, freeze=(), held=None)`:
            `decoder.forward` with the spec filled in.

    Example:
        >>> from functools import partial
        >>> import jax
        >>> from dictlearn.lm import decoder
        >>> from dictlearn.lm.spec import Spec, random_params
        >>> from dictlearn.lm.tokenizer import trained
        >>> spec = Spec(n_layers=1, d_model=4, n_heads=1, n_kv_heads=1, head_dim=4, d_mlp=8, vocab=300)
        >>> params = random_params(spec, jax.random.key(0))
        >>> lm = LM("mine", spec, params, trained(["a b"], 300), 0, {}, partial(decoder.forward, spec))
        >>> lm.forward(lm.params, jax.numpy.array([[1, 2, 3]]))[1]["resid.0"].shape
        (1, 3, 4)
    """

    name: str
    spec: Any
    params: Mapping[str, Any]
    tokenizer: Tokenizer
    separator: int
    source: Mapping[str, str]
    forward: Callable

    def check_tokens(self, tokens: Any, where: str) -> None:
        """Raises ValueError for a token that has no row in the embedding; `where` names its origin."""
        vocabulary.check(tokens, self.spec.vocab, where, self.tokenizer)
