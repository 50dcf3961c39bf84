"""The loop shared by all pursuits: rounds end for a token once it has enough entries, and for all once none
continues.

A token continues while it has fewer than its k entries and `|r| > tol |x|`. The loop ends with the last
of them, so a batch costs as many rounds as its longest token. The scores `<r, d>` of a round are the only
`[B, F]` array.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from dictlearn.ops.control_flow import any_member
from dictlearn.ops.topk.exact import top_k
from dictlearn.types import Scalar


class Limits(NamedTuple):
    """rounds: the upper bound of rounds, static. k_B: the upper bound of rounds for each token; may be
    traced. tol: the share of `|x|` below which the residual is small enough; may be traced."""

    rounds: int
    k_B: Int[Array, " B"] | Float[Array, " B"]
    tol: Scalar


def limits(x_BD: Float[Array, "B D"], rounds: int, k, tol: Scalar) -> Limits:
    """k: a number for all tokens, a number for each token `[B]`, or None for `rounds`."""
    k_B = jnp.broadcast_to(jnp.asarray(rounds if k is None else k), x_BD.shape[:1])
    return Limits(rounds, k_B, tol)


def repeat(
    step: Callable,
    scores: Callable,
    state,
    x_BD: Float[Array, "B D"],
    pre_BF: Float[Array, "B F"],
    limits: Limits,
):
    """`state` after all rounds of `state, r_BD, live_B = step(t, state, r_BD, live_B, scores_BF)`.

    step: must not change tokens that are not live, and may end a token's pursuit. scores: (t, state,
    r_BD) -> scores_BF, from the second round on; the scores of the first round are pre_BF.
    """
    enough_B = limits.tol**2 * jnp.sum(x_BD**2, 1)
    goes_on = lambda t, r_BD: (t < limits.k_B) & (jnp.sum(r_BD**2, 1) > enough_B)

    def one(t, state, r_BD, live_B, scores_BF):
        state, r_BD, live_B = step(t, state, r_BD, live_B & goes_on(t, r_BD), scores_BF)
        return t + 1, state, r_BD, live_B & goes_on(t + 1, r_BD)

    def again(carry):
        t, state, r_BD, live_B = carry
        return one(t, state, r_BD, live_B, scores(t, state, r_BD))

    more = lambda carry: (carry[0] < limits.rounds) & any_member(carry[3].any())
    first = one(jnp.int32(0), state, x_BD, jnp.ones(len(x_BD), bool), pre_BF)
    return lax.while_loop(more, again, first)[1]


def best(
    scores_BF: Float[Array, "B F"], width: int, absolute: bool, mask_F: Bool[Array, " F"] | None
):
    """(scores, indices) `[B, L]` of the `width` atoms of largest score, or of largest magnitude."""
    return top_k(jnp.abs(scores_BF) if absolute else scores_BF, width, mask_F)


def wide(a):
    """`a` in float32 or wider."""
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def put(a, t, new, live_B: Bool[Array, " B"]):
    """`a` `[B, K]` or `[B, K, K]` with `new` at entry t of its second axis, for the tokens that are live."""
    here_BK = (jnp.arange(a.shape[1]) == t) & live_B[:, None]
    return jnp.where(here_BK.reshape(*here_BK.shape, *[1] * (a.ndim - 2)), new[:, None], a)
