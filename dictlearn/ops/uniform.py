"""A predicate and a bound that are the same for every member of an enclosing `vmap`."""

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


@custom_vmap
def most_of_members(length):
    """The largest of the scalar `length` over the members of the enclosing vmaps: a loop that runs so far
    for all stays a loop, where one of its own length would select at every step."""
    return length


@most_of_members.def_vmap
def _most_of_members_batched(axis_size, in_batched, length):
    del axis_size
    return (jnp.max(length, axis=0) if in_batched[0] else length), False
