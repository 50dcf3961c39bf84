"""Weights rounded to a few values a row: what is left of a model at low precision, computed in its own dtype.

    w -> s round(w / s),    s = max |w| of the row / n,    n = (levels - 1) / 2

This is symmetric quantisation by the largest weight, one scale for each row of a matrix as it is stored here.
Vectors (norms, biases) stay as they are.
"""

import dataclasses

import jax
import jax.numpy as jnp

from dictlearn.lm.model import LM


def rounded(lm: LM, levels: int) -> LM:
    """The model with `levels` evenly spaced values in every row of every weight matrix.

    Raises ValueError unless `levels` is odd and at least 3."""
    if levels < 3 or levels % 2 == 0:
        raise ValueError(f"{levels=} must be odd, at least 3: zero, and as many on either side.")

    def one(leaf):
        step = jnp.abs(leaf).max(-1, keepdims=True) / (levels // 2)
        kept = leaf.ndim < 2 or step == 0
        return jnp.where(kept, leaf, jnp.round(leaf / jnp.where(kept, 1, step)) * step)

    params = jax.tree.map(one, lm.params)
    return dataclasses.replace(lm, params=params, source={**lm.source, **said(levels)})


def said(levels: int) -> dict[str, str]:
    """What a rounded model's `source` says beside that of the model."""
    return {"levels": str(levels)}
