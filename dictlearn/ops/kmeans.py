"""k-means by a fixed number of Lloyd iterations.

    assign each row to its nearest centre      centre <- mean of its rows

A centre without rows moves to one of the rows that are farthest from their centres, each such centre to a
different row. Sums over rows are global under a sharded batch; distances to at most `_BLOCK` centres are
held at a time.

Source: Lloyd 1982; Arthur & Vassilvitskii 2007 (k-means++).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

_BLOCK = 1024


def kmeans(
    key, x_BD: Float[Array, "B D"], n: int, iterations: int = 10, plusplus: bool = False
) -> Float[Array, "n D"]:
    """`n` centres of the rows of `x_BD`. They start at distinct rows drawn at random or, with `plusplus`,
    one after another with probability proportional to the squared distance to the centres drawn so far (n
    passes over the rows). With fewer rows than `n` some centres are equal. Raises ValueError for n below
    1."""
    if n < 1:
        raise ValueError(f"{n=} must be at least 1 centre.")
    order = jax.random.permutation(key, len(x_BD))
    first_CD = _plusplus(key, x_BD, n) if plusplus else x_BD[order[jnp.arange(n) % len(x_BD)]]
    return lax.fori_loop(0, iterations, lambda _, centre_CD: _lloyd(x_BD, centre_CD), first_CD)


def nearest(
    x_BD: Float[Array, "B D"], centre_CD: Float[Array, "C D"]
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """(index of the nearest centre of each row, the lowest of equal ones; squared distance to it)."""
    n = len(centre_CD)
    blocks = -(-n // _BLOCK)
    size = -(-n // blocks)
    pad = blocks * size - n
    half_C = jnp.pad(jnp.sum(centre_CD**2, 1) / 2, (0, pad), constant_values=jnp.inf)
    rows_CD = jnp.pad(centre_CD, ((0, pad), (0, 0)))

    def one(block):
        rows, half, start = block
        far = half - x_BD @ rows.T
        return far.min(1), far.argmin(1) + start

    starts = jnp.arange(blocks) * size
    cut = (rows_CD.reshape(blocks, size, -1), half_C.reshape(blocks, size), starts)
    far_CB, index_CB = lax.map(one, cut)
    best_1B = far_CB.argmin(0, keepdims=True)
    index_B = jnp.take_along_axis(index_CB, best_1B, axis=0)[0]
    return index_B, jnp.sum((x_BD - centre_CD[index_B]) ** 2, 1)


def _lloyd(x_BD, centre_CD):
    n = len(centre_CD)
    index_B, far_B = nearest(x_BD, centre_CD)
    count_C = jnp.zeros(n, x_BD.dtype).at[index_B].add(1)
    sum_CD = jnp.zeros_like(centre_CD).at[index_B].add(x_BD)
    empty_C = count_C == 0
    farthest_B = jnp.argsort(-far_B)
    rank_C = jnp.cumsum(empty_C) - 1
    fresh_CD = x_BD[farthest_B[rank_C % len(x_BD)]]
    return jnp.where(empty_C[:, None], fresh_CD, sum_CD / jnp.maximum(count_C, 1)[:, None])


def _plusplus(key, x_BD, n):
    def draw(t, carry):
        centre_CD, far_B = carry
        below_B = jnp.cumsum(far_B)
        u = jax.random.uniform(jax.random.fold_in(key, t), (), x_BD.dtype) * below_B[-1]
        row_D = x_BD[jnp.minimum(jnp.searchsorted(below_B, u, side="right"), len(x_BD) - 1)]
        new_B = jnp.sum((x_BD - row_D) ** 2, 1)
        return centre_CD.at[t].set(row_D), jnp.where(t == 0, new_B, jnp.minimum(far_B, new_B))

    empty = jnp.zeros((n, x_BD.shape[1]), x_BD.dtype), jnp.ones(len(x_BD), x_BD.dtype)
    return lax.fori_loop(0, n, draw, empty)[0]
