"""Which latents fired, for sparse and dense codes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from dictlearn.ops.blocks import each, summed
from dictlearn.ops.sparse.rows import bins
from dictlearn.types import Codes


def l0(codes: Codes) -> Int[Array, " B"]:
    """The number of active latents of each token; active means not zero."""
    if codes.idx_BK is not None:
        return jnp.count_nonzero(codes.val, axis=-1)
    return each(lambda val_BF: jnp.count_nonzero(val_BF, axis=-1), codes.val)


def count(codes: Codes, n_latents: int) -> Int[Array, " F"]:
    """The number of tokens on which each latent is active."""
    fired = lambda val: (val != 0).astype(jnp.int32)
    if codes.idx_BK is not None:
        return bins(fired(codes.val), codes.idx_BK, n_latents)
    return summed(lambda val_BF: fired(val_BF).sum(0), codes.val)


def dense(codes: Codes, n_latents: int) -> Float[Array, "B F"]:
    """The codes as an array.

    Args:
        codes: sparse or dense codes.
        n_latents: F.

    Returns:
        `[B, F]`, without gradient for sparse codes. Training never builds it from sparse codes.

    Example:
        >>> import jax.numpy as jnp
        >>> from dictlearn.types import Codes
        >>> codes = Codes(jnp.array([[0.5, 2.0]]), jnp.array([[3, 1]]))
        >>> dense(codes, 4).tolist()
        [[0.0, 2.0, 0.0, 0.5]]
    """
    if codes.idx_BK is None:
        return codes.val
    row = lambda val_K, idx_K: jnp.zeros(n_latents, val_K.dtype).at[idx_K].add(val_K)
    return jax.vmap(row)(codes.val, codes.idx_BK)


def largest(codes: Codes, n_latents: int) -> Float[Array, " F"]:
    """The largest absolute value of each latent in the batch, 0 where it is never active."""
    val = jnp.abs(codes.val)
    if codes.idx_BK is None:
        return val.max(0, initial=0)
    return jnp.zeros(n_latents, val.dtype).at[codes.idx_BK].max(val)


def bincount_l0(codes: Codes, mask_B: Shaped[Array, " B"]) -> Float[Array, " K"]:
    """The number of unmasked tokens with 0, 1, 2, ... active latents, up to the width of the codes."""
    width = codes.val.shape[-1]
    return jnp.zeros(width + 1).at[l0(codes)].add(mask_B)
