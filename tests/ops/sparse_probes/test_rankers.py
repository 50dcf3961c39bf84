"""Each ranker finds the feature that tells the label; what each cannot see is seen not to be."""

import numpy as np
import pytest
from sklearn.feature_selection import f_classif
from sklearn.svm import SVC

from dictlearn.ops.sparse_probes import rankers, sweeps
from dictlearn.ops.sparse_probes.scores import scores

TELLING = [name for name in rankers.RANKERS if name != "random"]


@pytest.fixture(scope="module")
def one_latent():
    """T-B5: 200 latents of noise, and whether latent 7 fires."""
    pre_BF = np.random.default_rng(0).normal(size=(1000, 200))
    return np.where(pre_BF > 0, 0.5 + pre_BF, 0), pre_BF[:, 7] > 0


@pytest.mark.parametrize("name", TELLING)
def test_the_latent_that_is_the_label_comes_first_and_alone_suffices(name, one_latent):
    x_BF, y_B = one_latent
    score_F = rankers.rank(name, x_BF, y_B)
    assert score_F.shape == (200,)
    (probe,) = sweeps.heuristic(x_BF, y_B, score_F, ks=(1,))
    assert probe.support_K.tolist() == [7]
    assert scores(y_B, probe.logit(x_BF))["accuracy"] == 1


def test_the_scale_of_a_latent_breaks_the_plain_difference_alone(one_latent):
    x_BF, y_B = one_latent
    x_BF = x_BF * np.where(np.arange(200) == 7, 1e-3, 1)
    first = lambda name: int(rankers.rank(name, x_BF, y_B).argmax())
    assert first("mean_difference") != 7
    assert first("mean_difference_normalised") == 7


def test_exclusive_or_is_not_linear():
    random = np.random.default_rng(0)
    x_BF = (random.random((4000, 20)) < 0.5).astype(float)
    y_B = (x_BF[:, 3] != x_BF[:, 4]).astype(bool)
    (probe,) = sweeps.fitted(x_BF, y_B, [np.array([3, 4])])
    assert scores(y_B, probe.logit(x_BF))["balanced_accuracy"] == pytest.approx(0.5, abs=0.03)


def test_the_f_statistic_is_sklearns(one_latent):
    x_BF, y_B = one_latent
    np.testing.assert_allclose(rankers.f_statistic(x_BF, y_B), f_classif(x_BF, y_B)[0], rtol=1e-8)
    never = np.c_[np.zeros(4), [1.0, 1, 0, 0]]
    assert rankers.f_statistic(never, np.array([1, 1, 0, 0], bool)).tolist() == [0, np.inf]


def test_mutual_information_is_that_of_the_label_and_of_nothing():
    random = np.random.default_rng(0)
    y_B = random.random(20_000) < 0.25
    x_BF = np.c_[y_B * 3.0, random.random(len(y_B)), np.zeros(len(y_B))]
    entropy = -(y_B.mean() * np.log(y_B.mean()) + (1 - y_B.mean()) * np.log(1 - y_B.mean()))
    assert rankers.mutual_information(x_BF, y_B) == pytest.approx([entropy, 0, 0], abs=1e-3)


def test_hinge_is_the_machine_of_sklearn():
    random = np.random.default_rng(0)
    x_BF = random.normal(size=(300, 5))
    y_B = x_BF[:, 0] + 0.5 * x_BF[:, 1] + 0.3 * random.normal(size=300) > 0.2
    machine = SVC(kernel="linear", class_weight="balanced", tol=1e-8).fit(x_BF, y_B)
    mine = rankers.hinge_loss(x_BF, y_B)
    assert mine == pytest.approx(np.abs(machine.coef_[0]), rel=1e-4)


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match=r"'lr'.*mean_difference") as told:
        rankers.rank("lr", np.ones((2, 1)), np.array([True, False]))
    assert all(name in str(told.value) for name in rankers.RANKERS)
    with pytest.raises(ValueError, match="all 2 examples have one label"):
        rankers.rank("f_statistic", np.ones((2, 1)), np.array([True, True]))
