"""Which latents fired, from codes of either form."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dictlearn.ops.sparse.rows import bins
from dictlearn.types import Codes


def l0(codes: Codes) -> Int[Array, " B"]:
    """Active latents of each token; active means not zero."""
    return jnp.count_nonzero(codes.val, axis=-1)


def count(codes: Codes, n_latents: int) -> Int[Array, " F"]:
    """Tokens on which each latent is active."""
    fired = (codes.val != 0).astype(jnp.int32)
    return fired.sum(0) if codes.idx_BK is None else bins(fired, codes.idx_BK, n_latents)


def dense(codes: Codes, n_latents: int) -> Float[Array, "B F"]:
    """The codes as a `[B, F]` array, for reading; training never makes one of the sparse forms."""
    if codes.idx_BK is None:
        return codes.val
    rows = jnp.arange(codes.val.shape[0])[:, None]
    empty = jnp.zeros((codes.val.shape[0], n_latents), codes.val.dtype)
    return jax.lax.stop_gradient(empty).at[rows, codes.idx_BK].add(codes.val)


def largest(codes: Codes, n_latents: int) -> Float[Array, " F"]:
    """The largest value each latent takes in the batch, 0 where it is never active."""
    val = jnp.abs(codes.val)
    if codes.idx_BK is None:
        return val.max(0)
    return jnp.zeros(n_latents, val.dtype).at[codes.idx_BK].max(val)


def bincount_l0(codes: Codes, mask_B) -> Float[Array, " K"]:
    """Unmasked tokens with 0, 1, 2, ... active latents, as many bins as a token can have, plus one."""
    most = codes.val.shape[-1]
    return jnp.zeros(most + 1).at[l0(codes)].add(mask_B)
