"""The few tokens of a batch that are fullest, to be treated apart: one in ROWS of every shard of the batch."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Shaped

from dictlearn.sharding import TABLE, axis_size

ROWS = 8


def fullest(size_B: Shaped[Array, " B"]) -> tuple[Callable, Callable, Callable]:
    """`(take, put, fit)` for the C = B / ROWS tokens of largest `size_B`, as many of each shard.

    take(a): their part `[C, ...]` of `[B, ...]`. put(a, part): `a` with the part added at theirs.
    fit(mask_B): the scalar truth that all tokens of the mask are among them. Raises ValueError unless C is a
    whole number."""
    n_shards = axis_size(TABLE["B"])
    here = (n_shards, len(size_B) // n_shards)
    if here[1] % ROWS or len(size_B) % n_shards:
        raise ValueError(f"{len(size_B)} tokens do not go into {n_shards} shards by {ROWS}.")
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
    """Whether `fullest` takes so many tokens."""
    return n_tokens % (axis_size(TABLE["B"]) * ROWS) == 0
