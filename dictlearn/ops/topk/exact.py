"""Exact top-k over the latents of each token, on one device or over a sharded latent axis.

The k largest entries of a row are in the k chunks with the largest maxima, so a first top-k over chunk
maxima leaves k chunks to search. Chunks are visited in the order of their indices, so equal entries are
ordered as in `lax.top_k`: the lowest index first. Over a sharded axis each shard contributes its own k
candidates, and only these are communicated.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from dictlearn.ops.sparse.backend import by_platform
from dictlearn.sharding import is_split

MASKED_BLOCKS = 8


def top_k(
    pre_BF: Float[Array, "B F"], k: int, mask_F: Bool[Array, " F"] | None = None
) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """The `k` largest entries of every row, the largest first, with their indices; without gradient.

    mask_F: only latents that are True are candidates; if fewer than `k` are, the remaining values are
    -inf. Raises ValueError if `k` exceeds F.
    """
    if k > pre_BF.shape[-1]:
        raise ValueError(f"{k=} exceeds the number of latents, {pre_BF.shape[-1]}.")
    pre_BF = lax.stop_gradient(pre_BF)
    if not is_split():
        return _local(pre_BF, k, mask_F)
    masked = mask_F is not None
    split = jax.shard_map(
        lambda pre, *mask: _sharded(pre, k, *mask),
        in_specs=(P("data", "model"), *[P("model")] * masked),
        out_specs=P("data", None),
        check_vma=False,
    )
    return split(pre_BF, *[mask_F] * masked)


def _sharded(pre, k, mask_F=None):
    """The part of one shard: its candidates, all-gathered over the latent axis, then the top k of them."""
    val, idx = _local(pre, min(k, pre.shape[-1]), mask_F)
    idx = idx + lax.axis_index("model") * pre.shape[-1]
    val = lax.all_gather(val, "model", axis=1, tiled=True)
    idx = lax.all_gather(idx, "model", axis=1, tiled=True)
    val, place = lax.top_k(val, k)
    return val, jnp.take_along_axis(idx, place, axis=1)


def _local(pre, k, mask_F):
    """The rows of this device. Under a mask they are processed in MASKED_BLOCKS parts, so that the masked
    copy from which the maxima are computed is never as large as `pre`."""
    choose = lambda block: by_platform("top_k", FORMS, block, mask_F, k=k)
    turns = MASKED_BLOCKS if mask_F is not None and len(pre) % MASKED_BLOCKS == 0 else 1
    if turns == 1:
        return choose(pre)
    val, idx = lax.map(choose, pre.reshape(turns, -1, pre.shape[-1]))
    return val.reshape(len(pre), k), idx.reshape(len(pre), k)


def _one_stage(pre, mask_F, k):
    val, idx = lax.top_k(pre if mask_F is None else jnp.where(mask_F, pre, -jnp.inf), k)
    return val, idx


def _two_stages(pre, mask_F, k):
    chunk = _chunk(pre.shape[-1], k)
    if chunk == 1:
        return _one_stage(pre, mask_F, k)
    pad = -pre.shape[-1] % chunk
    if pad:
        pre = jnp.pad(pre, ((0, 0), (0, pad)), constant_values=-jnp.inf)
        mask_F = None if mask_F is None else jnp.pad(mask_F, (0, pad))
    pre = pre.reshape(pre.shape[0], -1, chunk)
    mask = None if mask_F is None else mask_F.reshape(-1, chunk)
    top = pre if mask is None else jnp.where(mask, pre, -jnp.inf)
    _, chunks = lax.top_k(top.max(-1), k)
    chunks = jnp.sort(chunks, axis=-1)
    near = jnp.take_along_axis(pre, chunks[:, :, None], axis=1)
    if mask is not None:
        near = jnp.where(mask[chunks], near, -jnp.inf)
    val, place = lax.top_k(near.reshape(pre.shape[0], -1), k)
    return val, jnp.take_along_axis(chunks, place // chunk, axis=1) * chunk + place % chunk


def _chunk(n_latents: int, k: int) -> int:
    """A power of two near sqrt(F/k), where both stages cost the same; 1 where one stage is enough."""
    chunk = 1
    while 4 * chunk * chunk * k <= n_latents:
        chunk *= 2
    return chunk if chunk >= 4 else 1


FORMS = {"one_stage": _one_stage, "two_stages": _two_stages}
"""By name, for `ops.sparse.backend`. A TPU has an operation for a row's top k; elsewhere XLA sorts rows."""
