"""Groups of similar layers, for one dictionary per group: angular distances and their clusters.

    d(p, q) = (1 / pi) mean over tokens of arccos(cos(x^p, x^q))       in [0, 1]; 1/2 for orthogonal layers
    AMAD    = mean over groups of the largest distance inside          0 if every group is one layer

Source: Ghilardi et al. 2024/25 (arXiv:2410.21508): hierarchical clustering with complete linkage, the number
of groups by a bound on AMAD. UNSURE: their bound. Differs: their code passes the matrix of distances to the
clustering as if its rows were features; here the distances are clustered, as in the paper.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from dictlearn import streams
from dictlearn.analyses._heat import heat
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.experiment.stream import origin
from dictlearn.streams import Stream

NEEDS = ("origin",)


def layer_groups(
    subjects: Sequence[Subject],
    *,
    n_groups: int | None = None,
    bound: float | None = None,
    n_tokens: int = 8192,
) -> Result:
    """Groups of similar layers, among the layers that one run reads.

    Args:
        subjects: one run on several taps of a language model (`one_of_taps`, or concatenated). It need not
            have been trained: a config is enough.
        n_groups: the number of groups; None for one third of the layers.
        bound: instead of `n_groups`, the fewest groups with at most this AMAD.
        n_tokens: the largest number of tokens over which angles are averaged.

    Returns:
        A Result with the groups and `distances`.

    Raises:
        ValueError: for both settings at once, an impossible bound, and rows of no language model or of several.
    """
    if n_groups is not None and bound is not None:
        raise ValueError(f"{n_groups=} and {bound=}: set one of them.")
    (subject,) = exactly(1, subjects, "layer_groups")
    taps, stream = _side_by_side(subject)
    size = len(stream.batch(0).x_BD)
    batches = (stream.batch(t).x_BD for t in range(-(-n_tokens // size)))
    distance_LL = angular_distances(batches, len(taps))
    default = -(-len(taps) // 3) if n_groups is None else n_groups
    groups = cluster(distance_LL, default) if bound is None else fewest_groups(distance_LL, bound)
    named = [[taps[layer] for layer in group] for group in groups]
    widest = [distance_LL[np.ix_(group, group)].max() for group in groups]
    table = Table(
        "Layers in groups",
        ("group", "largest distance inside"),
        [(", ".join(group), width) for group, width in zip(named, widest, strict=True)],
    )
    values = {"taps": taps, "groups": named, "amad": amad(distance_LL, groups)}
    drawn = heat((taps, taps), {"angular distance": distance_LL})
    return Result(values | {"distances": distance_LL}, [table], [drawn])


def _side_by_side(subject: Subject) -> tuple[list[str], Stream]:
    """The taps that a run reads, and a raw stream of them, concatenated."""
    found = origin(subject.config) or ()
    if len(found) != 1:
        raise ValueError(
            f"{subject.name} reads {len(found)} language models; layers of one model are compared."
        )
    taps = list(found[0].read)
    if found[0].path is None:
        return taps, subject.stream
    shared = {"batch_size": 256, "block_rows": 1, "seed": 0}
    return taps, streams.make("store", path=found[0].path, tap=taps, **shared)


def angular_distances(
    batches: Iterable[Float[np.ndarray, "_ D"]], n_layers: int
) -> Float[np.ndarray, "L L"]:
    """d between all pairs of layers.

    Args:
        batches: raw rows with all layers concatenated. A token of zeros counts as orthogonal.
        n_layers: the number of layers.

    Returns:
        The distances.

    Raises:
        ValueError: if there is no token.
    """
    total_LL, n_tokens = np.zeros((n_layers, n_layers)), 0
    for rows_BD in batches:
        x_BLD = rows_BD.reshape(len(rows_BD), n_layers, -1).astype(np.float64)
        size_BL1 = np.linalg.norm(x_BLD, axis=2, keepdims=True)
        unit_BLD = x_BLD / np.where(size_BL1 > 0, size_BL1, 1)
        cosine_BLL = unit_BLD @ unit_BLD.swapaxes(1, 2)
        total_LL += np.arccos(np.clip(cosine_BLL, -1, 1)).sum(0) / np.pi
        n_tokens += len(rows_BD)
    if not n_tokens:
        raise ValueError("angular distances are means over tokens, and there were none.")
    np.fill_diagonal(total_LL, 0)
    return (total_LL + total_LL.T) / (2 * n_tokens)


def cluster(distance_LL: Float[np.ndarray, "L L"], n_groups: int) -> list[list[int]]:
    """Clusters layers with complete linkage.

    Args:
        distance_LL: their distances.
        n_groups: the number of groups.

    Returns:
        The groups; groups and layers in ascending order.

    Raises:
        ValueError: for more groups than layers, or none.
    """
    n_layers = len(distance_LL)
    if not 1 <= n_groups <= n_layers:
        raise ValueError(f"{n_groups=} must lie between 1 and the {n_layers} layers.")
    if n_layers == 1:
        return [[0]]
    tree = linkage(squareform(distance_LL, checks=False), method="complete")
    label_L = fcluster(tree, n_groups, criterion="maxclust")
    groups = [np.flatnonzero(label_L == label).tolist() for label in np.unique(label_L)]
    return sorted(groups)


def amad(distance_LL: Float[np.ndarray, "L L"], groups: list[list[int]]) -> float:
    """The average over groups of the largest distance within the group.

    Args:
        distance_LL: the distances of the layers.
        groups: the groups.

    Returns:
        The average.
    """
    return float(np.mean([distance_LL[np.ix_(group, group)].max() for group in groups]))


def fewest_groups(distance_LL: Float[np.ndarray, "L L"], bound: float) -> list[list[int]]:
    """The clusters of the smallest number of groups with at most a given AMAD.

    Args:
        distance_LL: the distances of the layers.
        bound: the bound, at least 0.

    Returns:
        The groups.
    """
    if not bound >= 0:
        raise ValueError(f"{bound=} must be at least 0, the AMAD of single layers.")
    every = (cluster(distance_LL, n) for n in range(1, len(distance_LL) + 1))
    return next(groups for groups in every if amad(distance_LL, groups) <= bound)
