"""Scores of a binary classifier from its logits: those of its decisions, and those of its ranking.

    F1 = 2 tp / (2 tp + fp + fn)        MCC = (tp tn - fp fn) / sqrt((tp+fp)(tp+fn)(tn+fp)(tn+fn))
    kappa = (observed - chance agreement) / (1 - chance agreement)
    ROC-AUC = P(a positive example ranks above a negative one), ties count half
    PR-AUC  = sum over thresholds of (recall - the one before) * precision

The definitions are scikit-learn's. A ratio with nothing below is 0.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

NAMES = (
    *("accuracy", "f1", "precision", "recall", "mcc", "kappa"),
    *("balanced_accuracy", "roc_auc", "pr_auc"),
)


def scores(
    y_B: Bool[np.ndarray, " B"],
    logit_B: Float[np.ndarray, " B"],
    weight_B: Float[np.ndarray, " B"] | None = None,
) -> dict[str, float]:
    """The scores of logits; an example is predicted positive where its logit is above 0.

    Args:
        y_B: the labels; both must occur.
        logit_B: the logits.
        weight_B: the weights of the decisions; None for 1. Examples of weight 0 are left out of the ranking.

    Returns:
        {name: score} for each of NAMES.

    Example:
        >>> found = scores(np.array([True, True, False]), np.array([2.0, -1.0, -3.0]))
        >>> found["precision"], found["recall"], found["roc_auc"]
        (1.0, 0.5, 1.0)
    """
    weight_B = np.ones(len(y_B)) if weight_B is None else weight_B
    counted = lambda a_B, b_B: float(weight_B[a_B & b_B].sum())
    said_B, kept_B = logit_B > 0, weight_B > 0
    counts = [counted(said, true) for said in (said_B, ~said_B) for true in (y_B, ~y_B)]
    ranking = _roc_auc(y_B[kept_B], logit_B[kept_B]), _pr_auc(y_B[kept_B], logit_B[kept_B])
    return dict(zip(NAMES, (*_decisions(*counts), *ranking), strict=True))


def _decisions(tp: float, fp: float, fn: float, tn: float) -> tuple[float, ...]:
    """The scores of NAMES that are of decisions."""
    n = tp + fp + fn + tn
    chance = _ratio((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn), n * n)
    recall, of_negative = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    apart = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return (
        _ratio(tp + tn, n),
        _ratio(2 * tp, 2 * tp + fp + fn),
        _ratio(tp, tp + fp),
        recall,
        _ratio(tp * tn - fp * fn, apart),
        _ratio(_ratio(tp + tn, n) - chance, 1 - chance),
        (recall + of_negative) / 2,
    )


def _ratio(above: float, below: float) -> float:
    return float(above / below) if below else 0.0


def _roc_auc(y_B: np.ndarray, logit_B: np.ndarray) -> float:
    n = int(np.count_nonzero(y_B))
    above = rankdata(logit_B)[y_B].sum() - n * (n + 1) / 2
    return _ratio(above, n * (len(y_B) - n))


def _pr_auc(y_B: np.ndarray, logit_B: np.ndarray) -> float:
    order_B = np.argsort(-logit_B, kind="stable")
    last = np.append(np.diff(logit_B[order_B]) != 0, True)
    found = np.cumsum(y_B[order_B])[last]
    precision = found / (np.flatnonzero(last) + 1)
    return _ratio(np.sum(np.diff(found, prepend=0) * precision), int(np.count_nonzero(y_B)))
