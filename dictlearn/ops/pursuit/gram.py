"""Scores updated by rows of the Gram matrix: `<x - sum_k v_k d_k, d_i> = <x, d_i> - sum_k v_k <d_k, d_i>`.

A round then adds rows of the Gram matrix `W W^T` instead of a matrix product with W. It adds one row a round
where earlier values stay, and all rows so far where they change. The matrix is computed once for each call,
half of it by symmetry, tile by tile; tokens are processed in blocks whose scores stay in the cache. In units of
one matrix product `x W^T`, on CPU (two cores; `benchmarks/pursuit.py` measures the whole), the costs are

    updated     GRAM F / B + ROW rows / D            recomputed     rounds - 1

The matrix has F^2 entries, so it is used for at most LIMIT entries, on one device, and only where it is
cheaper. On accelerators, whose matrix products cost less than the memory traffic, scores are recomputed.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from dictlearn.sharding import is_split
from dictlearn.types import Tokens

GRAM, ROW = 0.7, 20.0
"""Measured costs: the Gram matrix relative to the plain product, and adding a row at D = 1."""
LIMIT = 2**26
"""Entries of the largest matrix, 256 MiB of float32; a sweep holds one for each member."""
TOKENS, TILE, TOGETHER = 128, 512, 4
"""Tokens in a block, atoms on a side of a tile, rows that are added in one pass over the scores."""


def pays(
    x_BD: Tokens, W_FD: Float[Array, "F D"] | Float[np.ndarray, "F D"], rounds: int, rows: int
) -> bool:
    """Whether `rounds` rounds are cheaper by updates of `rows` rows in total, on CPU; depends on shapes
    only."""
    n, (n_latents, d) = len(x_BD), W_FD.shape
    if is_split() or n_latents**2 > LIMIT:
        return False
    return GRAM * n_latents / n + ROW * rows / d < rounds - 1


def products(W_FD: Float[Array, "F D"]) -> Float[Array, "F F"]:
    """`W W^T`, with each off-diagonal tile computed once. The last tiles overlap where TILE does not divide
    F."""
    n_latents, tile = len(W_FD), min(TILE, len(W_FD))
    starts = np.minimum(np.arange(0, n_latents, tile), n_latents - tile)
    pairs_P2 = jnp.asarray([(i, j) for i in starts for j in starts if i <= j], jnp.int32)
    rows = lambda i: lax.dynamic_slice_in_dim(W_FD, i, tile)

    def put(n, gram_FF):
        i, j = pairs_P2[n]
        tile_TT = rows(i) @ rows(j).T
        gram_FF = lax.dynamic_update_slice(gram_FF, tile_TT, (i, j))
        return lax.dynamic_update_slice(gram_FF, tile_TT.T, (j, i))

    return lax.fori_loop(0, len(pairs_P2), put, lax.empty((n_latents, n_latents), W_FD.dtype))


def refitted(
    pre_BF: Float[Array, "B F"], W_FD: Float[Array, "F D"], gram_FF: Float[Array, "F F"] | None
) -> Callable:
    """For a search that changes all its values in a round: (t, state, r_BD) -> scores of r. The first two
    entries of the state are values and indices `[B, K]`, of which t are in use. gram_FF: the Gram matrix,
    or None to recompute the scores."""
    if gram_FF is None:
        return lambda t, state, r_BD: r_BD @ W_FD.T

    def scores(t, state, r_BD):
        rest = -state[0].shape[1] % TOGETHER
        val_KB, idx_KB = (jnp.pad(a.T, ((0, rest), (0, 0))) for a in state[:2])

        def less(turn, scores_BF):
            for k in range(TOGETHER):
                k = TOGETHER * turn + k
                scores_BF -= val_KB[k][:, None] * gram_FF[idx_KB[k]]
            return scores_BF

        return lax.fori_loop(0, -(-t // TOGETHER), less, pre_BF)

    return scores


def either(search: Callable, arrays, W_FD: Float[Array, "F D"], *, rounds: int, rows: int):
    """`search(*arrays)`; where updates are cheaper, on CPU, `search(*block, gram_FF)` for blocks of TOKENS
    tokens.

    arrays: with a leading axis B, x_BD first; the results of `search` have that axis too.
    """
    if not pays(arrays[0], W_FD, rounds, rows):
        return search(*arrays)

    def updated(*arrays):
        gram_FF, n = products(W_FD), len(arrays[0])
        fill = lambda a: jnp.pad(a, ((0, -n % TOKENS), *[(0, 0)] * (a.ndim - 1)))
        blocks = tuple(fill(a).reshape(-1, TOKENS, *a.shape[1:]) for a in arrays)
        found = lax.map(lambda block: search(*block, gram_FF), blocks)
        return tuple(a.reshape(-1, *a.shape[2:])[:n] for a in found)

    return lax.platform_dependent(*arrays, cpu=updated, default=search)
