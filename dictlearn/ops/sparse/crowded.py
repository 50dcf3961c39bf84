"""The tokens of a batch by the number of their active latents, on each data shard: the fullest, which are
computed densely, and all in groups of similar numbers.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, Shaped

from dictlearn.sharding import TABLE, axis_size

SHARES = (32, 8)
"""The numbers of tokens of which one can be computed densely."""
GROUPS = 8
"""The number of groups; one where they would have fewer tokens than LEAST."""
LEAST = 64


def fullest(size_B: Shaped[Array, " B"], share: int) -> tuple[Callable, Callable, Callable]:
    """`(take, put, fit)` for the C = B / `share` tokens of largest `size_B`, the same number from each shard.

    take(a): the rows `[C, ...]` of `a` `[B, ...]` at these tokens. put(a, part): `a` with `part` added at
    these tokens. fit(mask_B): a scalar, whether all tokens of the mask are among them. Raises ValueError
    unless C is an integer.
    """
    n_shards = axis_size(TABLE["B"])
    if len(size_B) % (n_shards * share):
        raise ValueError(
            f"{len(size_B)} tokens must be a multiple of {n_shards} shards times {share}."
        )
    here = len(size_B) // n_shards
    take, put = _rows(lax.top_k(size_B.reshape(n_shards, here), here // share)[1], here)
    fit = lambda mask_B: jnp.sum(mask_B) == jnp.sum(take(mask_B))
    return take, put, fit


def grouped(size_B: Int[Array, " B"]) -> tuple[Callable, Callable, Int[Array, " G"]]:
    """`(take, put, most_G)` for all tokens, those of each shard in the order of falling size.

    take(a): the rows of `a` in that order. put(a, part): `a` with `part`, which is in that order, added.
    most_G: the largest size in each of G equal groups of consecutive tokens of all shards.
    """
    n_shards = axis_size(TABLE["B"])
    here = len(size_B) // n_shards
    n_groups = GROUPS if here % GROUPS == 0 and here // GROUPS >= LEAST else 1
    take, put = _rows(jnp.argsort(size_B.reshape(n_shards, here), axis=1, descending=True), here)
    return take, put, take(size_B).reshape(n_shards, n_groups, -1).max((0, 2))


def _rows(token_SC: Int[Array, "S C"], here: int) -> tuple[Callable, Callable]:
    """`(take, put)` for C tokens of each of S shards, which have `here` tokens each. They are a `vmap`, because
    only then XLA sees that no shard needs the tokens of another."""
    split = lambda a: a.reshape(-1, here, *a.shape[1:])
    take = lambda a: jax.vmap(lambda a, at: a[at])(split(a), token_SC).reshape(-1, *a.shape[1:])
    add = lambda a, at, part: a.at[at].add(part, unique_indices=True)

    def put(a, part):
        part = part.reshape(*token_SC.shape, *a.shape[1:])
        return jax.vmap(add)(split(a), token_SC, part).reshape(a.shape)

    return take, put


def shares(n_tokens: int) -> tuple[int, ...]:
    """Those of SHARES by which this number of tokens can be divided on every shard."""
    n_shards = axis_size(TABLE["B"])
    return tuple(share for share in SHARES if n_tokens % (n_shards * share) == 0)
