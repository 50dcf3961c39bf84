"""Circuits of attention heads: heads whose discrete codes separate positive from negative examples.

    c_nh    = argmax_i f_i(z_nh)               the code of head h on example n; NONE where no latent is active
    u_nh    = n is positive, and c_nh is the code of h on no negative example
    node_h  = mean over positive n of u_nh      overlap with the negatives makes it 0
    edge_hg = mean over positive n of u_nh u_ng

Source: O'Neill & Bui 2024 (arXiv:2405.12522), read at second hand: a small autoencoder with an L1 penalty of
the heads' outputs on 5 to 10 examples of a task and as many that differ from them in what makes the task.
UNSURE: their normalisation of the score (here a share of the positive examples), and which position of a
prompt is read. Any dictionary of rows [examples x heads, head width] will do; the codes' names do not matter,
and the latents' order does not either.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

NONE = -1


def discretise(codes_BF: Float[np.ndarray, "B F"], n_heads: int) -> Int[np.ndarray, "N h"]:
    """c of rows that have the heads of an example one after another. Raises ValueError where the heads do
    not divide the rows."""
    if len(codes_BF) % n_heads:
        raise ValueError(
            f"{n_heads=} does not divide the {len(codes_BF)} rows, heads of one example each."
        )
    code_B = np.where((codes_BF > 0).any(1), codes_BF.argmax(1), NONE)
    return code_B.reshape(-1, n_heads)


def unique_to_positives(
    code_Nh: Int[np.ndarray, "N h"], positive_N: Bool[np.ndarray, " N"]
) -> Bool[np.ndarray, "P h"]:
    """u of the positive examples. Raises ValueError where either kind is missing."""
    if positive_N.all() or not positive_N.any():
        raise ValueError(
            "codes are compared between positive and negative examples; both are needed."
        )
    mine_Ph, theirs_Nh = code_Nh[positive_N], code_Nh[~positive_N]
    return (mine_Ph[:, None] != theirs_Nh[None]).all(1)


def node_scores(
    code_Nh: Int[np.ndarray, "N h"], positive_N: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " h"]:
    """node_h in [0, 1]."""
    return unique_to_positives(code_Nh, positive_N).mean(0)


def edge_scores(
    code_Nh: Int[np.ndarray, "N h"], positive_N: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, "h h"]:
    """edge_hg, symmetric, node_h on its diagonal."""
    unique_Ph = unique_to_positives(code_Nh, positive_N).astype(np.float64)
    return unique_Ph.T @ unique_Ph / len(unique_Ph)


def precision_recall(
    score_h: Float[np.ndarray, " h"], member_h: Bool[np.ndarray, " h"], threshold: float
) -> tuple[float, float]:
    """Of the heads that score at least `threshold` the share that are members (1 where there is none),
    and the share of the members among them."""
    found_h = score_h >= threshold
    hits = float((found_h & member_h).sum())
    return hits / found_h.sum() if found_h.any() else 1.0, hits / member_h.sum()


def auc(score_h: Float[np.ndarray, " h"], member_h: Bool[np.ndarray, " h"]) -> float:
    """The probability that a member scores above another head, ties counting half: the area under the ROC."""
    difference = score_h[member_h][:, None] - score_h[~member_h][None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())
