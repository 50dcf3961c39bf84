"""Non-negative least squares for many small systems at once, from their normal equations.

    min_{v >= 0} 1/2 v G v - b v
    v_P = G_PP^-1 b_P, v = 0 elsewhere        optimal where v_P >= 0 and G v - b >= 0

All entries whose sign is wrong move into or out of P at once; after three such exchanges without fewer
wrong entries, only the last wrong entry moves.

Source: Kim & Park 2011, "Fast nonnegative matrix factorization" (block principal pivoting).
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from dictlearn.ops.control_flow import any_member
from dictlearn.ops.pursuit.matching import solve


def least_squares(
    gram_BKK: Float[Array, "B K K"], dot_BK: Float[Array, "B K"], active_BK: Bool[Array, "B K"]
) -> tuple[Float[Array, "B K"], Bool[Array, "B K"]]:
    """(v, P), from an initial P; without gradient. Entries whose atom is zero (a zero on G's diagonal) stay
    zero. The search ends after at most 5 K exchanges, and entries that are then negative are set to zero."""
    k = dot_BK.shape[1]
    square_BK = jnp.diagonal(gram_BKK, axis1=1, axis2=2)
    tight_BK = (
        8
        * jnp.finfo(dot_BK.dtype).eps
        * jnp.sqrt(square_BK)
        * jnp.max(jnp.abs(dot_BK), 1, keepdims=True)
    )

    def look(active_BK):
        both_BKK = active_BK[:, :, None] & active_BK[:, None, :]
        val_BK = solve(jnp.where(both_BKK, gram_BKK, 0), jnp.where(active_BK, dot_BK, 0))
        slope_BK = jnp.einsum("bkl,bl->bk", gram_BKK, val_BK) - dot_BK
        wrong_BK = jnp.where(active_BK, val_BK < 0, slope_BK < -tight_BK) & (square_BK > 0)
        return val_BK, wrong_BK

    def exchange(carry):
        n, active_BK, _, wrong_BK, fewest_B, patience_B = carry
        count_B = wrong_BK.sum(1)
        fewer_B = count_B < fewest_B
        patience_B = jnp.where(fewer_B, 3, patience_B - 1)
        last_BK = wrong_BK & (jnp.cumsum(wrong_BK, axis=1) == count_B[:, None])
        active_BK ^= jnp.where((patience_B >= 0)[:, None], wrong_BK, last_BK)
        return n + 1, active_BK, *look(active_BK), jnp.minimum(count_B, fewest_B), patience_B

    full_B = jnp.full(len(dot_BK), k + 1)
    first = (jnp.int32(0), active_BK, *look(active_BK), full_B, jnp.full_like(full_B, 3))
    more = lambda carry: (carry[0] < 5 * k) & any_member(carry[3].any())
    _, active_BK, val_BK, *_ = lax.while_loop(more, exchange, first)
    return jnp.maximum(val_BK, 0), active_BK
