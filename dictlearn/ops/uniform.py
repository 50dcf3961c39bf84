"""A predicate that is the same for every member of an enclosing `vmap`."""

import jax.numpy as jnp
from jax.custom_batching import custom_vmap


@custom_vmap
def any_member(predicate):
    """True if the scalar `predicate` is true for any member of the enclosing vmaps.

    Under a plain vmap a `lax.cond` on a per-member predicate becomes a select that computes both
    branches; on this one it stays a branch."""
    return predicate


@any_member.def_vmap
def _any_member_batched(axis_size, in_batched, predicate):
    del axis_size
    return (jnp.any(predicate, axis=0) if in_batched[0] else predicate), False
