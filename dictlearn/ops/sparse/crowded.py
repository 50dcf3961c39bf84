"""The tokens of a batch with the most active latents: one in ROWS of each data shard's tokens, computed
densely.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Shaped

from dictlearn.sharding import TABLE, axis_size

ROWS = 8


def fullest(size_B: Shaped[Array, " B"]) -> tuple[Callable, Callable, Callable]:
    """`(take, put, fit)` for the C = B / ROWS tokens of largest `size_B`, the same number from each shard.

    take(a): the rows `[C, ...]` of `a` `[B, ...]` at these tokens. put(a, part): `a` with `part` added at
    these tokens. fit(mask_B): a scalar, whether all tokens of the mask are among them. Raises ValueError
    unless C is an integer.
    """
    n_shards = axis_size(TABLE["B"])
    here = (n_shards, len(size_B) // n_shards)
    if here[1] % ROWS or len(size_B) % n_shards:
        raise ValueError(
            f"{len(size_B)} tokens must be a multiple of {n_shards} shards times {ROWS}."
        )
    split = lambda a: a.reshape(*here, *a.shape[1:])
    _, token_SC = lax.top_k(split(size_B), here[1] // ROWS)
    where = jnp.arange(n_shards)[:, None], token_SC
    take = lambda a: split(a)[where].reshape(token_SC.size, *a.shape[1:])

    def put(a, part):
        part = part.reshape(*token_SC.shape, *a.shape[1:])
        return split(a).at[where].add(part).reshape(a.shape)

    fit = lambda mask_B: jnp.sum(mask_B) == jnp.sum(take(mask_B))
    return take, put, fit


def splits(n_tokens: int) -> bool:
    """Whether `fullest` can split this number of tokens."""
    return n_tokens % (axis_size(TABLE["B"]) * ROWS) == 0
