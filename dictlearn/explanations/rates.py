"""How often a judge was right: rates over labelled examples, per quantile, and the area under the ROC curve.

    balanced accuracy = (TPR + TNR) / 2

Examples without an answer are left out of all rates; their share is the coverage's complement. A rate of
nothing is NaN.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata


def rates(
    truth: Sequence[bool], said: Sequence[bool | None], quantile: Sequence[int] | None = None
) -> dict[str, Any]:
    """The rates of yes-or-no answers.

    Args:
        truth: the label of each example.
        said: its answer; None where there is none.
        quantile: the slice of each example; None without slices.

    Returns:
        Rates by their names, coverage, n, and by_quantile, the accuracy within each slice.

    Example:
        >>> truth = [True] * 5 + [False] * 5
        >>> said = [True] * 4 + [False] + [False] * 3 + [True] * 2
        >>> found = rates(truth, said)
        >>> round(found["balanced_accuracy"], 3), round(found["precision"], 3), round(found["f1"], 3)
        (0.7, 0.667, 0.727)
    """
    known = np.array([one is not None for one in said], bool)
    label = np.array(truth, bool)[known]
    answer = np.array([bool(one) for one in said], bool)[known]
    coverage = {"coverage": ratio(known.sum(), len(known)), "n": len(known)}
    found = _counted(label, answer) | coverage
    if quantile is not None:
        own, right = np.array(quantile)[known], label == answer
        mean = lambda q: ratio(right[own == q].sum(), (own == q).sum())
        found["by_quantile"] = {str(q): mean(q) for q in np.unique(own).tolist()}
    return found


def _counted(label: np.ndarray, answer: np.ndarray) -> dict[str, Any]:
    right, both = label == answer, (label & answer).sum()
    tpr, tnr = ratio(right[label].sum(), label.sum()), ratio(right[~label].sum(), (~label).sum())
    return {
        "balanced_accuracy": (tpr + tnr) / 2,
        "accuracy": ratio(right.sum(), len(right)),
        "tpr": tpr,
        "tnr": tnr,
        "precision": ratio(both, answer.sum()),
        "recall": tpr,
        "f1": ratio(2 * both, label.sum() + answer.sum()),
    }


def auc(truth: Sequence[bool], score: Sequence[float]) -> float:
    """The probability that an example that is true has a larger score than one that is not.

    Args:
        truth: the label of each example.
        score: its score; NaN where there is none.

    Returns:
        A number from 0 to 1; NaN without examples of both kinds.

    Example:
        >>> auc([True, True, False, False], [0.9, 0.4, 0.4, 0.1])
        0.875
    """
    known = ~np.isnan(np.array(score, float))
    label, value = np.array(truth, bool)[known], np.array(score, float)[known]
    n_true, n_false = int(label.sum()), int((~label).sum())
    ranks = rankdata(value)[label].sum()
    return ratio(ranks - n_true * (n_true + 1) / 2, n_true * n_false)


def ratio(over, under) -> float:
    """`over / under`; NaN where `under` is 0."""
    return float(over / under) if under else float("nan")
