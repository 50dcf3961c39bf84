"""A `lax.switch` whose backward pass keeps the arguments alone and computes the branch taken again.

Differentiated as it is, a switch keeps what any branch would need, zeros for those not taken.
"""

from collections.abc import Callable, Sequence

import jax
from jax import lax


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
