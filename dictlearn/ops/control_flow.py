"""Control flow in compiled programs that stays a branch, or a loop, where XLA would otherwise make a select.

`switch` is a `lax.switch` whose backward pass keeps only the arguments and recomputes the branch taken. The
gradient of a plain switch keeps the intermediate values of every branch, with zeros for the branches that are
not taken. `switch_or_not` also adds that gradient to others in place, by `added`. `any_member` and
`max_over_members` make a predicate and a loop bound equal for every member of an enclosing `vmap`.
"""

from collections.abc import Callable, Sequence
from functools import partial

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


def switch_or_not(index, nothing, branches: Sequence[Callable], fixed: tuple, *moving):
    """`(result, *moving)`: for an index of 0, `nothing`, which does not depend on `moving`; otherwise the
    result of `branches[index - 1]`, as in `switch`.

    If all other readers of `moving` use the returned ones, the gradient of a branch is added to theirs in
    place (`added`), and an index of 0 costs nothing.
    """

    @jax.custom_vjp
    def choose(index, fixed, *moving):
        return lax.switch(index, [lambda *_: nothing, *branches], *fixed, *moving), *moving

    def backward(saved, bars):
        (index, *operands), (g, *totals) = saved, bars

        def add(branch, totals, g, fixed, *moving):
            parts = jax.vjp(lambda *m: branch(*fixed, *m), *moving)[1](g)
            return jax.tree.map(jnp.add, totals, list(parts))

        adds = [partial(add, branch) for branch in branches]
        return None, None, *added(index, adds, totals, g, *operands)

    choose.defvjp(lambda *operands: (choose(*operands), operands), backward)
    return choose(index, fixed, *moving)


def added(index, adds: Sequence[Callable], totals, *operands):
    """`adds[index - 1](totals, *operands)`, or `totals` for an index of 0.

    It is a loop of one turn or none for each of `adds`, because XLA keeps the carry of a loop in place but
    copies the result of a branch.
    """

    def turn_of(add, turn, totals):
        # XLA would move what does not depend on the turn out of the loop, and compute it always.
        _, now = lax.optimization_barrier((turn, operands))
        return add(totals, *now)

    for number, add in enumerate(adds, start=1):
        turns = (index == number).astype(jnp.int32)
        totals = lax.fori_loop(0, turns, partial(turn_of, add), totals)
    return totals


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
