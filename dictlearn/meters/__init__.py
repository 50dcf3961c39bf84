"""Meters: evaluations as folds. Sums and counts are taken on the device in float32, added up on the
host in float64 and divided once, so any partition of the tokens into batches gives the same result."""

from typing import NamedTuple

import jax
import numpy as np

from dictlearn.types import Codes


class Reading(NamedTuple):
    """One batch as meters see it: targets, reconstructions, codes, and which tokens count."""

    y_BD: jax.Array
    yhat_BD: jax.Array
    codes: Codes
    mask_B: jax.Array


def add(totals, sums):
    """`totals + sums`, leaf by leaf, in float64."""
    return jax.tree.map(lambda a, b: a + np.asarray(b, np.float64), totals, sums)
