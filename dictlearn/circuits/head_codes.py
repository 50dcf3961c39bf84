"""Circuits of attention heads: heads whose discrete codes separate positive from negative examples.

    f       codes of one autoencoder of the outputs z of all heads (circuits/tied.py)
    c_nh    = argmax_i f_i(z_nh)               the code of head h on example n; NONE if no latent is active
    u_nh    = n is positive, and c_nh is the code of h on no negative example
    node_h  = mean over positive n of u_nh      0 if every code also occurs on a negative example
    edge_hg = mean over positive n of u_nh u_ng

Source: O'Neill & Bui 2024 (arXiv:2405.12522), read at second hand: a small autoencoder with an L1 penalty on
the heads' outputs, for 5 to 10 examples of a task and as many that lack only what defines the task. UNSURE:
their normalisation of the score (here a share of the positive examples), and which position of a prompt is
read. Any dictionary of rows [examples x heads, head width] can be used; neither the names of the codes nor
the order of the latents matters.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from dictlearn.circuits import tied
from dictlearn.circuits.graph import Graph

NONE = -1


def coded(z_Nhw: Float[np.ndarray, "N h w"], how: tied.How, seed: int) -> Int[np.ndarray, "N h"]:
    """The codes of heads by an autoencoder that is trained on their outputs, at a mean square of 1.

    Args:
        z_Nhw: the output of each head on each example.
        how: the training.
        seed: its seed.

    Returns:
        c.

    Raises:
        ValueError: for settings out of bounds.
    """
    rows_BD = z_Nhw.reshape(-1, z_Nhw.shape[2])
    size = np.sqrt((rows_BD**2).sum(1).mean()) or 1.0
    return discretise(tied.codes(rows_BD / size, how, seed), z_Nhw.shape[1])


def discretise(codes_BF: Float[np.ndarray, "B F"], n_heads: int) -> Int[np.ndarray, "N h"]:
    """The code c of each head on each example.

    Args:
        codes_BF: the codes; the heads of an example are consecutive rows.
        n_heads: the number of heads.

    Returns:
        Indices of latents.

    Raises:
        ValueError: if `n_heads` does not divide the rows.
    """
    if len(codes_BF) % n_heads:
        raise ValueError(
            f"{n_heads=} does not divide the {len(codes_BF)} rows, heads of one example each."
        )
    code_B = np.where((codes_BF > 0).any(1), codes_BF.argmax(1), NONE)
    return code_B.reshape(-1, n_heads)


def unique_to_positives(
    code_Nh: Int[np.ndarray, "N h"], positive_N: Bool[np.ndarray, " N"]
) -> Bool[np.ndarray, "P h"]:
    """u of the positive examples.

    Args:
        code_Nh: the codes.
        positive_N: which examples are positive.

    Returns:
        u, a row for each positive example.

    Raises:
        ValueError: without positive examples, or without negative ones.
    """
    if positive_N.all() or not positive_N.any():
        raise ValueError(
            "codes are compared between positive and negative examples; both are needed."
        )
    mine_Ph, theirs_Nh = code_Nh[positive_N], code_Nh[~positive_N]
    return (mine_Ph[:, None] != theirs_Nh[None]).all(1)


def node_scores(
    code_Nh: Int[np.ndarray, "N h"], positive_N: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " h"]:
    """The score of each head, in [0, 1].

    Args:
        code_Nh, positive_N: as in `unique_to_positives`.

    Returns:
        node_h.
    """
    return unique_to_positives(code_Nh, positive_N).mean(0)


def edge_scores(
    code_Nh: Int[np.ndarray, "N h"], positive_N: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, "h h"]:
    """The score of each pair of heads.

    Args:
        code_Nh, positive_N: as in `unique_to_positives`.

    Returns:
        edge_hg, symmetric, with node_h on its diagonal.
    """
    unique_Ph = unique_to_positives(code_Nh, positive_N).astype(np.float64)
    return unique_Ph.T @ unique_Ph / len(unique_Ph)


def graph(
    node_h: Float[np.ndarray, " h"],
    edge_hh: Float[np.ndarray, "h h"],
    chosen_M: Int[np.ndarray, " M"],
    n_layers: int,
    **told: str,
) -> Graph:
    """Chosen heads as a Graph, whose latents they are: their layer, position 0, their number in the layer.

    Args:
        node_h, edge_hh: the scores of all heads, layer by layer.
        chosen_M: the heads.
        n_layers: the layers of the model.
        told: `prompt` and `model`, as in Graph.

    Returns:
        A Graph without tokens, errors and logits, whose edges lead from a layer to later ones.
    """
    at_M = np.sort(chosen_M)
    layer_M, head_M = np.divmod(at_M, len(node_h) // n_layers)
    latents_M3 = np.stack([layer_M, np.zeros_like(layer_M), head_M], axis=1)
    edges_MM = np.where(layer_M[:, None] > layer_M, edge_hh[np.ix_(at_M, at_M)], 0.0)
    given = {"words": (), "tokens_T": np.zeros(0, int), "n_layers": n_layers, "logits": (), **told}
    own = {"latents_N3": latents_M3, "values_N": node_h[at_M], "edges_MM": edges_MM}
    return Graph(**{"prompt": "", **given, **own, "n_active": int((node_h > 0).sum())})


def precision_recall(
    score_h: Float[np.ndarray, " h"], member_h: Bool[np.ndarray, " h"], threshold: float
) -> tuple[float, float]:
    """Precision and recall of the heads that score at least a threshold.

    Args:
        score_h: the scores.
        member_h: which heads are in the true circuit.
        threshold: the threshold.

    Returns:
        (precision, recall); the precision is 1 if no head reaches the threshold.
    """
    found_h = score_h >= threshold
    hits = float((found_h & member_h).sum())
    return hits / found_h.sum() if found_h.any() else 1.0, hits / member_h.sum()


def auc(score_h: Float[np.ndarray, " h"], member_h: Bool[np.ndarray, " h"]) -> float:
    """The area under the ROC curve: the probability that a member scores higher than another head.

    Args:
        score_h, member_h: as in `precision_recall`.

    Returns:
        The area; ties count half.
    """
    difference = score_h[member_h][:, None] - score_h[~member_h][None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())
