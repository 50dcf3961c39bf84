"""Latents of a concept alone win back what a bias costs, and a rotation of them does not."""

import numpy as np
import pytest

from dictlearn import tasks
from dictlearn.analyses import _asked
from dictlearn.analyses._ablated import Basis
from dictlearn.analyses.scr import bias, crossed, score, share

DATA = _asked.Data("planted", n_train=400, n_test=200, context=16, seed=0, model="", tap="")
PAIR = ("fruit", "metal")


@pytest.fixture(scope="module")
def drawn():
    task = tasks.make("planted", classes=PAIR, n=600, weather=1)
    return crossed(task, PAIR, {}, DATA)


def test_the_score_by_hand():
    assert share(0.6, 0.95, 0.81) == pytest.approx(0.6)
    assert share(0.6, 0.6005, 0.81) == 0


def test_latents_of_one_concept_are_the_ceiling_and_a_rotation_the_floor(drawn):
    """T-B3: two latents carry a signed concept, so that one wins back half."""
    random = np.random.default_rng(0)
    sign_SD = np.zeros((len(drawn.text), 32))
    sign_SD[:, :2] = 1 - 2 * np.stack([drawn.class_S // 2, drawn.class_S % 2], 1)
    x_SD = sign_SD + 0.3 * random.normal(size=sign_SD.shape)
    turns = [np.linalg.qr(random.normal(size=(32, 32)))[0] for _ in range(5)]
    coded = lambda axes: Basis(
        np.maximum(np.hstack([x_SD @ axes.T, -x_SD @ axes.T]), 0), np.vstack([axes, -axes])
    )
    one = bias(x_SD, drawn, 0)
    planted = score(x_SD, coded(np.eye(32)), one, ns=(1, 2))
    turned = [score(x_SD, coded(turn_DD), one, ns=(2,)) for turn_DD in turns]
    assert planted["scr_metric_threshold_1"] == pytest.approx(0.52, abs=0.1)
    assert planted["scr_metric_threshold_2"] > 0.95
    assert all(planted[f"scr_dir{side}_threshold_2"] > 0.9 for side in (1, 2))
    found = [each["scr_metric_threshold_2"] for each in turned]
    assert np.mean(found) < 0.5
    nothing = Basis(np.zeros_like(x_SD), np.eye(32))
    assert not any(score(x_SD, nothing, one, ns=(500,)).values())


def test_documents_are_crossed_and_probes_see_what_they_should(drawn):
    assert drawn.classes == ("0 fruit, dry", "1 fruit, wet", "2 metal, dry", "3 metal, wet")
    assert set(np.bincount(drawn.class_S)) == {300}
    words = {"0": ("apple", "sun"), "3": ("iron", "rain")}
    for s in range(len(drawn.text)):
        for cell, (kind, weather) in words.items():
            wrong = {"apple": "iron", "iron": "apple", "sun": "rain", "rain": "sun"}
            if drawn.classes[drawn.class_S[s]].startswith(cell):
                assert not {wrong[kind], wrong[weather]} & set(drawn.text[s].split())


@pytest.mark.parametrize(
    ("more", "told"),
    [({"attribute": "height"}, "there are weather"), ({"values": ("wet",)}, r"\['wet'\]")],
)
def test_an_attribute_without_two_values_is_refused(more, told):
    task = tasks.make("planted", classes=PAIR, n=8, weather=1)
    with pytest.raises(ValueError, match=told):
        crossed(task, PAIR, more, DATA)
    with pytest.raises(ValueError, match="there are none"):
        crossed(tasks.make("planted", classes=PAIR, n=8), PAIR, {}, DATA)
