"""Weights rounded to a few values per row: a model at low precision, computed in its own dtype.

    w -> s round(w / s),    s = max |w| of the row / n,    n = (levels - 1) / 2

This is symmetric absmax quantisation, with one scale for each row of a matrix as it is stored here. Vectors
(norms, biases) are not rounded.
"""

import dataclasses

import jax
import jax.numpy as jnp

from dictlearn.lm.model import LM


def rounded(lm: LM, levels: int) -> LM:
    """Rounds every weight matrix to evenly spaced values.

    Args:
        lm: the model.
        levels: the number of values per row; odd, at least 3.

    Returns:
        The rounded model.

    Raises:
        ValueError: for other `levels`.
    """
    if levels < 3 or levels % 2 == 0:
        raise ValueError(
            f"{levels=} must be odd, at least 3: zero, and the same number on either side."
        )

    def one(leaf):
        step = jnp.abs(leaf).max(-1, keepdims=True) / (levels // 2)
        kept = leaf.ndim < 2 or step == 0
        return jnp.where(kept, leaf, jnp.round(leaf / jnp.where(kept, 1, step)) * step)

    params = jax.tree.map(one, lm.params)
    return dataclasses.replace(lm, params=params, source={**lm.source, **said(levels)})


def said(levels: int) -> dict[str, str]:
    """The additional entries of a rounded model's `source`.

    Args:
        levels: the number of values per row.

    Returns:
        The entries.
    """
    return {"levels": str(levels)}
