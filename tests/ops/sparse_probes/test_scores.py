"""Scores are scikit-learn's, ties and weights included."""

import numpy as np
import pytest
from sklearn import metrics

from dictlearn.ops.sparse_probes.scores import NAMES, scores

OF_DECISIONS = {
    "accuracy": metrics.accuracy_score,
    "f1": metrics.f1_score,
    "precision": metrics.precision_score,
    "recall": metrics.recall_score,
    "mcc": metrics.matthews_corrcoef,
    "kappa": metrics.cohen_kappa_score,
    "balanced_accuracy": metrics.balanced_accuracy_score,
}
OF_RANKING = {"roc_auc": metrics.roc_auc_score, "pr_auc": metrics.average_precision_score}


@pytest.mark.parametrize("weighted", [False, True])
def test_every_score_is_sklearns(weighted):
    random = np.random.default_rng(0)
    y_B = random.random(200) < 0.3
    logit_B = np.round(random.normal(size=200) + y_B, 1)  # rounded, so that values tie
    weight_B = random.integers(0, 3, 200).astype(float) if weighted else np.ones(200)
    mine, kept_B = scores(y_B, logit_B, weight_B), weight_B > 0
    assert tuple(mine) == NAMES
    for name, score in OF_DECISIONS.items():
        assert mine[name] == pytest.approx(score(y_B, logit_B > 0, sample_weight=weight_B)), name
    for name, score in OF_RANKING.items():
        assert mine[name] == pytest.approx(score(y_B[kept_B], logit_B[kept_B])), name


def test_a_classifier_that_says_one_thing_has_no_score_but_chance():
    mine = scores(np.array([True, False, False]), np.zeros(3))
    assert (mine["f1"], mine["precision"], mine["mcc"], mine["kappa"]) == (0, 0, 0, 0)
    assert (mine["balanced_accuracy"], mine["roc_auc"]) == (0.5, 0.5)
