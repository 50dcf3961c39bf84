"""Functions of tokens, computed for a block of tokens at a time.

A reduction over `[B, F]` whose operand XLA does not fuse holds an array of that size. On a CPU it also waits
for the pages of that array, which takes longer than the arithmetic. A block stays in the cache. Over a sharded
batch all tokens are one block, since a loop over shards would gather them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Shaped

from dictlearn.sharding import is_split

SIZE, MOST = 256, 16
"""The number of tokens of a block; more where there would be over MOST blocks, since an accelerator waits
between them. Batches that are no multiple of a block are one."""


def summed(of: Callable, *trees):
    """The sum over blocks of `of(*trees)`, a tree of arrays. trees: of arrays over the tokens `[B, ...]`."""
    parts = _split(trees)
    if parts is None:
        return of(*trees)
    shapes = jax.eval_shape(of, *jax.tree.map(lambda part: part[0], parts))
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    add = lambda total, part: (jax.tree.map(jnp.add, total, of(*part)), None)
    return lax.scan(add, zero, parts)[0]


def each(of: Callable, *trees) -> Shaped[Array, "B ..."]:
    """`of(*trees)`, an array over the tokens, in which no token depends on another."""
    parts = _split(trees)
    if parts is None:
        return of(*trees)
    found = lax.map(lambda part: of(*part), parts)
    return found.reshape(-1, *found.shape[2:])


def _split(trees):
    """The arrays as blocks `[N, size, ...]`, or None for one block."""
    n_tokens = len(jax.tree.leaves(trees)[0])
    size = max(SIZE, n_tokens // MOST)
    if n_tokens <= size or n_tokens % size or is_split():
        return None
    return jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), trees)
