"""Several sources concatenated along D, in order: layers of a model, or models, each D / L wide.

    |W_i^l|   the norm of the part of row i that belongs to source l
    share_il = |W_i^l| / sum_m |W_i^m|        1: only source l; 1 / L: all sources equally
    cosine_i = cos(W_i^a, W_i^b)

Source: Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and model diffing": relative
norms of the decoder tell which model has a feature, cosines tell whether it has the same direction in
both.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dictlearn.ops.penalties import row_norms

Rows = Float[Array, "F D"] | Float[np.ndarray, "F D"]


def split(rows_FD: Rows, n: int) -> Float[Array, "F L W"] | Float[np.ndarray, "F L W"]:
    """The parts of each row, by source."""
    return rows_FD.reshape(len(rows_FD), n, -1)


def norms(W_FD: Rows, n: int) -> Float[Array, "F L"]:
    """W_i^l|; the gradient is zero (not NaN) where a part is zero."""
    parts_FLD = jnp.asarray(split(W_FD, n))
    return jax.vmap(row_norms, in_axes=1, out_axes=1)(parts_FLD)


def shares(W_FD: Rows, n: int) -> Float[np.ndarray, "F L"]:
    """share_il; all zero for a row of zeros."""
    norm_FL = np.asarray(norms(jnp.asarray(W_FD), n), np.float64)
    return norm_FL / np.maximum(norm_FL.sum(1, keepdims=True), 1e-30)


def owners(share_FL: Float[np.ndarray, "F L"], exclusive: float = 0.9) -> Int[np.ndarray, " F"]:
    """The source that has at least a share `exclusive` of a row's norm; -1 where the row is shared. Raises
    ValueError for a share that two sources could have."""
    if not 0.5 < exclusive <= 1:
        raise ValueError(
            f"{exclusive=} must be above 0.5, so that only one source can have it, and at most 1."
        )
    return np.where(share_FL.max(1) >= exclusive, share_FL.argmax(1), -1)


def alike(W_FD: Rows, n: int, a: int, b: int) -> Float[np.ndarray, " F"]:
    """The cosine between the parts of sources `a` and `b` of each row; 0 where a part is zero."""
    parts_FLD = np.asarray(split(W_FD, n), np.float64)
    one_FD, other_FD = parts_FLD[:, a], parts_FLD[:, b]
    size_F = np.linalg.norm(one_FD, axis=1) * np.linalg.norm(other_FD, axis=1)
    return (one_FD * other_FD).sum(1) / np.where(size_F > 0, size_F, 1)
