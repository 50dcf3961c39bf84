"""Gradient accumulation over parts of a batch: the memory of one part, the gradient of the whole batch.

It wraps the gradient of a learner and not the learner. The mean must be taken before the rule updates anything,
or Adam's moments would be the moments of the parts.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dictlearn.types import Batch


class Seen(NamedTuple):
    """Statistics of a forward pass for rules and logging. Of each latent: the number of tokens on which it
    fired, and its largest pre-activation. Of each token: the squared error, and the number of active
    latents."""

    count_F: jax.Array
    max_F: jax.Array
    error_B: jax.Array
    l0_B: jax.Array


Differentiate = Callable[[dict, dict, jax.Array, Batch, jax.Array], tuple[Any, dict, Seen]]
"""(params, other variables, strength of the penalty, batch, dead_F) -> ((gradients, losses), other variables
after it, Seen)."""


def accumulated(differentiate: Differentiate, n: int) -> Differentiate:
    """`differentiate` over `n` parts of the batch: the means of gradients and losses, and the statistics of
    all tokens. The variables in `stats` pass from part to part. Raises ValueError for an n below 1."""
    if n < 1:
        raise ValueError(f"accumulate={n} must be at least 1.")

    def over_parts(params, rest, strength, batch: Batch, dead_F):
        def one(carry, part):
            total, rest = carry
            found, rest, seen = differentiate(params, rest, strength, whole(part), dead_F)
            return (jax.tree.map(jnp.add, total, found), rest), seen

        def whole(part: Batch) -> Batch:
            """The part with the parameters of the language model, which are not split."""
            if batch.context is None:
                return part
            model = batch.context.params
            return part._replace(context=dataclasses.replace(part.context, params=model))

        parts = _parts(batch, n)
        first = whole(jax.tree.map(lambda leaf: leaf[0], parts))
        shapes = jax.eval_shape(differentiate, params, rest, strength, first, dead_F)[0]
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        (total, rest), seen = lax.scan(one, (zeros, rest), parts)
        length = 1 if batch.context is None else batch.context.tokens_ST.shape[1]
        join = lambda leaf_AB: leaf_AB.reshape(n, -1, length).swapaxes(0, 1).reshape(-1)
        seen = Seen(seen[0].sum(0), seen[1].max(0), join(seen[2]), join(seen[3]))
        return jax.tree.map(lambda leaf: leaf / n, total), rest, seen

    return differentiate if n == 1 else over_parts


def _parts(batch: Batch, n: int) -> Batch:
    """`[n, B / n, D]`: part a holds every n-th token from token a on, so that each part has tokens of every
    device. For a batch of sequences, every n-th sequence."""
    size, context = batch.x_BD.shape[0], batch.context
    length = 1 if context is None else context.tokens_ST.shape[1]
    if size // length % n or size % length:
        raise ValueError(
            f"accumulate={n} must divide batch_size={size}, which is {size // length} sequences of {length}."
        )
    cut = lambda a_SX: a_SX.reshape(size // length // n, n, *a_SX.shape[1:]).swapaxes(0, 1)
    rows = lambda a_BD: cut(a_BD.reshape(size // length, -1)).reshape(n, size // n, a_BD.shape[1])
    g_BD = None if batch.g_BD is None else rows(batch.g_BD)
    parts = Batch(rows(batch.x_BD), rows(batch.y_BD), g_BD=g_BD)
    if context is None:
        return parts
    own = {name: cut(getattr(context, name)) for name in ("tokens_ST", "mask_ST", "y_STD")}
    return parts._replace(context=dataclasses.replace(context, params=None, **own))
