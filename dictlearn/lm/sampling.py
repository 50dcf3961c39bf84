"""Drawing the next token from its logits.

    softmax(logits / temperature), among the `top_k` most likely tokens, or the fewest that add up to `top_p`

Source: top-k of Fan et al. 2018 (arXiv:1805.04833); top-p of Holtzman et al. 2019 (arXiv:1904.09751).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Sampling(NamedTuple):
    """How tokens are drawn.

    Args:
        temperature: 0 takes the most likely token.
        top_k, top_p: draws are among the `top_k` most likely tokens, and among the most likely tokens whose
            probabilities add up to `top_p` or more; None for all.

    Example:
        >>> Sampling(0.7, top_p=0.9).checked().top_k is None
        True
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def checked(self) -> "Sampling":
        """Itself. Raises ValueError for a value out of range."""
        temperature, top_k, top_p = self
        if not 0 <= temperature < np.inf:
            raise ValueError(f"{temperature=} must be at least 0 and finite.")
        if top_k is not None and top_k < 1:
            raise ValueError(f"{top_k=} must be at least 1; None draws among all tokens.")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"{top_p=} must be above 0 and at most 1; None draws among all.")
        return self


@functools.partial(jax.jit, static_argnames="sampling")
def draw(sampling: Sampling, key: jax.Array, n, logits_BV) -> tuple[jax.Array, jax.Array]:
    """The n-th token of every sequence.

    Args:
        sampling: how it is drawn.
        key: a PRNG key. The draw depends on the key, n and the row alone.
        n: the number of tokens drawn before.
        logits_BV: the logits.

    Returns:
        (token_B, the logarithm of each token's probability at a temperature of 1).
    """
    log_prob_BV = jax.nn.log_softmax(logits_BV)
    if sampling.temperature:
        rows_B = jnp.arange(len(logits_BV))
        keys_B = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, n), rows_B)
        weighed_BV = _among(sampling, logits_BV / sampling.temperature)
        token_B = jax.vmap(jax.random.categorical)(keys_B, weighed_BV)
    else:
        token_B = jnp.argmax(logits_BV, axis=-1)
    chosen_B1 = jnp.take_along_axis(log_prob_BV, token_B[:, None], axis=1)
    return token_B.astype(jnp.int32), chosen_B1[:, 0]


def _among(sampling: Sampling, logits_BV: jax.Array) -> jax.Array:
    """The logits, -inf for tokens that `top_k` and `top_p` leave out."""
    _, top_k, top_p = sampling
    if top_k is not None:
        least_B1 = jax.lax.top_k(logits_BV, min(top_k, logits_BV.shape[1]))[0][:, -1:]
        logits_BV = jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)
    if top_p is not None:
        falling_BV = jnp.sort(logits_BV, axis=-1, descending=True)
        before_BV = jnp.cumsum(jax.nn.softmax(falling_BV), axis=-1) - jax.nn.softmax(falling_BV)
        least_B1 = jnp.where(before_BV < top_p, falling_BV, jnp.inf).min(-1, keepdims=True)
        logits_BV = jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)
    return logits_BV
