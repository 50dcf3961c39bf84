"""Control flow in compiled programs that stays a branch, or a loop, where XLA would otherwise make a select.

`switch` is a `lax.switch` whose backward pass keeps only the arguments and recomputes the branch taken. The
gradient of a plain switch keeps the intermediate values of every branch, with zeros for the branches that are
not taken. `any_member` and `max_over_members` make a predicate and a loop bound equal for every member of an
enclosing `vmap`.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap


def switch(index, branches: Sequence[Callable], fixed: tuple, *moving):
    """`branches[index](*fixed, *moving)`, with gradient to `moving` and none to `fixed`."""

    @jax.custom_vjp
    def choose(index, fixed, *moving):
        return lax.switch(index, branches, *fixed, *moving)

    def backward(saved, g):
        index, fixed, *moving = saved

        def pull(branch):
            return lambda fixed, g, *moving: jax.vjp(lambda *m: branch(*fixed, *m), *moving)[1](g)

        found = lax.switch(index, [pull(branch) for branch in branches], fixed, g, *moving)
        return None, None, *found

    choose.defvjp(lambda *operands: (choose(*operands), operands), backward)
    return choose(index, fixed, *moving)


@custom_vmap
def any_member(predicate):
    """True if the scalar `predicate` is true for any member of the enclosing vmaps.

    Under a plain vmap, a `lax.cond` on a per-member predicate becomes a select that computes both
    branches; on this predicate it stays a branch.
    """
    return predicate


@any_member.def_vmap
def _any_member_batched(axis_size, in_batched, predicate):
    del axis_size
    return (jnp.any(predicate, axis=0) if in_batched[0] else predicate), False


@custom_vmap
def max_over_members(length):
    """The largest value of the scalar `length` over the members of the enclosing vmaps. A loop of this
    length stays a loop; a loop of each member's own length would select at every step."""
    return length


@max_over_members.def_vmap
def _max_over_members_batched(axis_size, in_batched, length):
    del axis_size
    return (jnp.max(length, axis=0) if in_batched[0] else length), False
