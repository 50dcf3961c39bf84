"""Feature recovery and consistency across seeds, from best cosines between atoms.

    recovery at tau     share of true atoms v with max_m cos(w_m, v) >= tau
    consistency at tau  share of a run's most active atoms whose best cosine in every other run is >= tau

Cosines are signed (ops/cosine.py). The functions read weights, so they are not folds over batches.

Source: the feature recovery rate and the maximum cosine similarity of Chen et al. 2025
(arXiv:2506.14002).

UNSURE which latents are their most active: here the latents with the highest maximum activation.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dictlearn.ops.cosine import nearest

Rows = Float[Array, "_ D"] | Float[np.ndarray, "_ D"]


def recovery(truth_ND: Rows, atoms_FD: Rows, threshold: float) -> float:
    """The share of the true atoms for which a learned atom has cosine >= threshold."""
    return float(np.mean(np.asarray(nearest(truth_ND, atoms_FD)[0]) >= threshold))


def most_active(largest_F: Float[np.ndarray, " F"], share: float) -> Int[np.ndarray, " active"]:
    """The indices of the latents with the highest maximum activation: a share `share` of the latents that
    ever fire. Raises ValueError for a share outside (0, 1]."""
    if not 0 < share <= 1:
        raise ValueError(f"{share=} must be above 0 and at most 1.")
    alive = int((largest_F > 0).sum())
    return np.argsort(-largest_F, kind="stable")[: max(1, round(share * alive))]


def consistency(
    runs: Sequence[Rows], active: Sequence[Int[np.ndarray, " _"]], threshold: float
) -> float:
    """The mean over runs of the share of a run's `active` atoms that every other run has at cosine >=
    threshold.

    runs: the atoms of each run. active: the indices of the latents that count in each (`most_active`);
    any atom of the other runs may match. Raises ValueError for fewer than two runs.
    """
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run(s) given; consistency compares two or more.")
    shares = []
    for i, mine in enumerate(runs):
        rows = jnp.asarray(mine)[active[i]]
        others = [np.asarray(nearest(rows, b)[0]) for j, b in enumerate(runs) if j != i]
        shares.append(np.mean(np.min(others, axis=0) >= threshold))
    return float(np.mean(shares))
