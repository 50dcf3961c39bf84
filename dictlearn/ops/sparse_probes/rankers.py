"""Rankings of features by how much each tells about a binary label.

    mean_difference      |mean of x where y - mean of x where not y|
    mean_difference_normalised    the same, divided by the mean of |x| where x is not 0
    f_statistic          variance between the classes over variance within (ANOVA)
    mutual_information   in nats, of the label and the binned value; 0 is a bin of its own
    l1_logistic          |coefficient| of an L1 logistic regression with C = 0.1, of all features at once
    hinge                |coefficient| of a linear support vector machine, of all features at once
    random               the baseline

Axes: B an example, F a feature.

Source: Gurnee et al. 2023 (arXiv:2305.01610); Kantamneni et al. 2025 (arXiv:2502.16681) for the normalised
difference.
Differs: mutual information is a plug-in estimate over quantile bins; scikit-learn's is by nearest neighbours.
"""

from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Bool, Float, Shaped

from dictlearn.ops.sparse_probes import hinge, logistic

Examples = Shaped[np.ndarray, "B F"]
Labels = Bool[np.ndarray, " B"]
Scores = Float[np.ndarray, " F"]

_BINS = 8
_C = 0.1


def mean_difference(x_BF: Examples, y_B: Labels) -> Scores:
    """The absolute difference of the means of the two classes."""
    mean = lambda side_B: x_BF[side_B].mean(axis=0, dtype=np.float64)
    return np.abs(mean(y_B) - mean(~y_B))


def mean_difference_normalised(x_BF: Examples, y_B: Labels) -> Scores:
    """`mean_difference` in units of the mean of a feature's absolute values that are not 0."""
    size_F = np.abs(x_BF).sum(axis=0, dtype=np.float64)
    typical_F = size_F / np.maximum(np.count_nonzero(x_BF, axis=0), 1)
    return mean_difference(x_BF, y_B) / np.where(typical_F > 0, typical_F, 1)


def f_statistic(x_BF: Examples, y_B: Labels) -> Scores:
    """The F statistic of a one-way analysis of variance; 0 for a feature that never varies."""
    sides = [x_BF[y_B].astype(np.float64), x_BF[~y_B].astype(np.float64)]
    mean_F = x_BF.mean(axis=0, dtype=np.float64)
    between_F = sum(len(side) * (side.mean(axis=0) - mean_F) ** 2 for side in sides)
    within_F = sum(((side - side.mean(axis=0)) ** 2).sum(axis=0) for side in sides)
    below_F = within_F / (len(x_BF) - len(sides))
    separated_F = np.where(between_F > 0, np.inf, 0.0)
    return np.where(below_F > 0, between_F / np.where(below_F > 0, below_F, 1), separated_F)


def mutual_information(x_BF: Examples, y_B: Labels) -> Scores:
    """The mutual information of the label and each binned feature, in nats."""
    return np.array([_information(_binned(x_B), y_B) for x_B in x_BF.T])


def _binned(x_B: np.ndarray) -> np.ndarray:
    """The bin of each value: 0 for the value 0, then quantiles of the other values."""
    active_B = x_B != 0
    if not active_B.any():
        return np.zeros(len(x_B), int)
    edges = np.unique(np.quantile(x_B[active_B], np.arange(1, _BINS) / _BINS))
    return np.where(active_B, 1 + np.searchsorted(edges, x_B, side="right"), 0)


def _information(bin_B: np.ndarray, y_B: np.ndarray) -> float:
    joint = np.zeros((2, _BINS + 1))
    np.add.at(joint, (y_B.astype(int), bin_B), 1 / len(y_B))
    alone = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float(np.sum(joint[there] * np.log(joint[there] / alone[there])))


def l1_logistic(x_BF: Examples, y_B: Labels) -> Scores:
    """The absolute coefficients of a balanced L1 logistic regression."""
    weight_1B = weights(y_B)[None]
    return np.abs(logistic.labels(x_BF, y_B[None], weight_1B, c=_C, kind="l1").w_D[0])


def hinge_loss(x_BF: Examples, y_B: Labels) -> Scores:
    """The absolute coefficients of a balanced linear support vector machine."""
    with jax.enable_x64(True):
        return np.abs(np.asarray(_solve(np.float64(x_BF), y_B, weights(y_B), 1.0).w_K))


_solve = jax.jit(hinge.solve)


def random(x_BF: Examples, seed: int) -> Scores:
    """Uniform random scores."""
    return np.random.default_rng(seed).random(x_BF.shape[1])


def weights(y_B: Labels) -> Float[np.ndarray, " B"]:
    """The weights of examples under which both classes count equally; their mean is 1."""
    positive = np.count_nonzero(y_B)
    return len(y_B) / (2 * np.where(y_B, positive, len(y_B) - positive))


RANKERS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "mean_difference": lambda x_BF, y_B, seed: mean_difference(x_BF, y_B),
    "mean_difference_normalised": lambda x_BF, y_B, seed: mean_difference_normalised(x_BF, y_B),
    "f_statistic": lambda x_BF, y_B, seed: f_statistic(x_BF, y_B),
    "mutual_information": lambda x_BF, y_B, seed: mutual_information(x_BF, y_B),
    "l1_logistic": lambda x_BF, y_B, seed: l1_logistic(x_BF, y_B),
    "hinge": lambda x_BF, y_B, seed: hinge_loss(x_BF, y_B),
    "random": lambda x_BF, y_B, seed: random(x_BF, seed),
}


def rank(name: str, x_BF: Examples, y_B: Labels, seed: int = 0) -> Scores:
    """The score of each feature.

    Args:
        name: a ranker, of RANKERS.
        x_BF: the examples.
        y_B: their labels; both must occur.
        seed: the seed of the random ranker.

    Returns:
        Scores; the higher, the more a feature tells.

    Raises:
        ValueError: for an unknown ranker, listing the known ones, and for a label with one class.

    Example:
        >>> rank("mean_difference", np.array([[0.0, 1.0], [3.0, 1.0]]), np.array([False, True])).tolist()
        [3.0, 0.0]
    """
    if name not in RANKERS:
        raise ValueError(f"unknown ranker {name!r}; there are {', '.join(RANKERS)}.")
    if y_B.all() or not y_B.any():
        raise ValueError(f"all {len(y_B)} examples have one label; a ranking needs both.")
    return RANKERS[name](x_BF, y_B, seed)
