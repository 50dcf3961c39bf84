"""The linear support vector machine to its optimum, by an interior-point method on its dual.

    c = min_{w,b} |w|^2 / (2 gamma) + sum_i C_i max(0, 1 - y_i (w x_i + b))
      = max_a     sum_i a_i - gamma / 2 |sum_i a_i y_i x_i|^2       0 <= a_i <= C_i, sum_i a_i y_i = 0

Each step solves a system of as many unknowns as there are columns. `solve` is traceable and computes in the
dtype of x; float64 is advised.

Axes: B an example, K a column.

Source: Fine & Scheinberg 2001.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.types import Scalar

_STEPS = 80
_CENTRE = 0.1
_SHORT = 0.99
"""The share of the way to the bounds that a step goes."""


class Machine(NamedTuple):
    """w_K, b: the machine. a_B: its dual variables. value: the optimum c."""

    w_K: Array
    b: Array
    a_B: Array
    value: Array


class _State(NamedTuple):
    """a, b; the multipliers of 0 <= a (low) and a <= C (high)."""

    a_B: Array
    b: Array
    low_B: Array
    high_B: Array


def solve(
    x_BK: Float[Array, "B K"], y_B: Bool[Array, " B"], bound_B: Float[Array, " B"], gamma: Scalar
) -> Machine:
    """The optimum.

    Args:
        x_BK: the examples.
        y_B: their labels; both must occur.
        bound_B: C_i, above 0.
        gamma: the inverse of the penalty.

    Returns:
        A Machine.
    """
    sign_B = jnp.where(y_B, 1.0, -1.0).astype(x_BK.dtype)
    v_BK = jnp.sqrt(gamma) * sign_B[:, None] * x_BK
    close = jnp.finfo(x_BK.dtype).eps ** 0.6

    problem = v_BK, sign_B, bound_B
    going = lambda carry: (_unmet(carry[0], *problem) > close) & (carry[1] < _STEPS)

    def step(carry):
        new = _step(carry[0], *problem)
        fine = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in new]))
        kept = jax.tree.map(lambda a, b: jnp.where(fine, a, b), new, carry[0])
        # A step that is not finite is past the last digit: nothing is left to gain.
        return kept, jnp.where(fine, carry[1] + 1, _STEPS)

    one_B = jnp.ones_like(bound_B)
    first = _State(bound_B / 2, jnp.zeros((), x_BK.dtype), one_B, one_B)
    state, _ = lax.while_loop(going, step, (first, 0))
    inner_K = v_BK.T @ state.a_B
    value = state.a_B.sum() - inner_K @ inner_K / 2
    return Machine(jnp.sqrt(gamma) * inner_K, state.b, state.a_B, value)


def _unmet(state: _State, v_BK: Array, sign_B: Array, bound_B: Array) -> Array:
    """The largest violation of an optimality condition."""
    gap = state.a_B @ state.low_B + (bound_B - state.a_B) @ state.high_B
    apart = jnp.abs(_residual(state, v_BK, sign_B)).max()
    balance = jnp.abs(sign_B @ state.a_B)
    return jnp.max(jnp.stack([gap / (1 + state.a_B.sum()), apart, balance]))


def _residual(state: _State, v_BK: Array, sign_B: Array) -> Array:
    return v_BK @ (v_BK.T @ state.a_B) - 1 + state.b * sign_B - state.low_B + state.high_B


def _step(state: _State, v_BK: Array, sign_B: Array, bound_B: Array) -> _State:
    """A step towards the point of the central path at a tenth of the gap."""
    a_B, b, low_B, high_B = state
    room_B = bound_B - a_B
    target = _CENTRE * (a_B @ low_B + room_B @ high_B) / (2 * len(a_B))
    diagonal_B = low_B / a_B + high_B / room_B
    scaled_BK = v_BK / diagonal_B[:, None]
    inner_KK = jnp.eye(v_BK.shape[1], dtype=v_BK.dtype) + v_BK.T @ scaled_BK
    factor = jax.scipy.linalg.cho_factor(inner_KK)
    inverse = lambda r_B: (
        r_B / diagonal_B - scaled_BK @ jax.scipy.linalg.cho_solve(factor, scaled_BK.T @ r_B)
    )
    q_B = -_residual(state, v_BK, sign_B) + (target / a_B - low_B) - (target / room_B - high_B)
    of_sign_B, of_q_B = inverse(sign_B), inverse(q_B)
    db = (sign_B @ of_q_B + sign_B @ a_B) / (sign_B @ of_sign_B)
    da_B = of_q_B - db * of_sign_B
    dlow_B = (target - low_B * da_B) / a_B - low_B
    dhigh_B = (target + high_B * da_B) / room_B - high_B
    reach = lambda at_B, by_B: jnp.min(jnp.where(by_B < 0, -at_B / by_B, jnp.inf))
    ends = [reach(a_B, da_B), reach(room_B, -da_B), reach(low_B, dlow_B), reach(high_B, dhigh_B)]
    far = jnp.minimum(1.0, _SHORT * jnp.min(jnp.stack(ends)))
    return _State(a_B + far * da_B, b + far * db, low_B + far * dlow_B, high_B + far * dhigh_B)
