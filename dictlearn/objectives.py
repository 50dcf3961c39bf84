"""Objectives: `(out, batch) -> loss per token [B]`, float32. The learner takes the mean over tokens.

`make` finds one by its name. They differ in scale alone, which decides what a sparsity coefficient means:
`squared_error` sums over D, `mean_squared_error` averages over D, `fvu` divides by the batch's variance.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from dictlearn.types import Batch, Out


def squared_error(out: Out, batch: Batch) -> Float[Array, " B"]:
    """`|y - yhat|^2`, summed over D."""
    return jnp.sum((out.y_BD - batch.y_BD) ** 2, -1)


def mean_squared_error(out: Out, batch: Batch) -> Float[Array, " B"]:
    """`|y - yhat|^2 / D`."""
    return jnp.mean((out.y_BD - batch.y_BD) ** 2, -1)


def fvu(out: Out, batch: Batch) -> Float[Array, " B"]:
    """`|y - yhat|^2` over the mean squared distance of the batch's targets to their mean, so that the
    mean over tokens is the fraction of variance unexplained within the batch (the normalised MSE of
    Gao et al. 2024, with the batch's own mean and variance)."""
    centred_BD = batch.y_BD - batch.y_BD.mean(0)
    return squared_error(out, batch) / jnp.mean(jnp.sum(centred_BD**2, -1))


_ALL = {each.__name__: each for each in (squared_error, mean_squared_error, fvu)}


def make(name: str) -> Callable[[Out, Batch], Array]:
    """The objective `name`. Raises ValueError for an unknown one, listing what there is."""
    if name not in _ALL:
        raise ValueError(f"unknown objective {name!r}; there are {', '.join(_ALL)}.")
    return _ALL[name]
