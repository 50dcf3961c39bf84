"""Latents of a class alone are found, a rotation of them is not, and what is taken out is what was put in."""

import jax
import numpy as np
import pytest

from dictlearn import dictionaries, tasks
from dictlearn.analyses import _documents, _probing
from dictlearn.analyses._ablated import Basis
from dictlearn.analyses.tpp import falls, score
from dictlearn.normalise import Norm
from dictlearn.ops.firing import dense
from dictlearn.runs.trained import Trained

KEY = "tpp_threshold_1_total_metric"


def test_the_score_by_hand():
    before, after = np.array([0.95, 0.90]), np.array([[0.65, 0.88], [0.94, 0.60]])
    total, own, other = falls(before, after)
    assert total == pytest.approx(0.285)
    assert (own, other) == (pytest.approx(0.30), pytest.approx(0.015))


def test_one_latent_a_class_is_the_ceiling_and_a_rotation_the_floor():
    """T-B4."""
    random = np.random.default_rng(0)
    drawn = tasks.draw(tasks.make("planted", n=60), 80, 40)
    asked = tasks.questions(drawn)
    clean_SD = 3.0 * (drawn.class_S[:, None] == np.arange(16))
    x_SD = clean_SD + 0.1 * random.normal(size=clean_SD.shape)
    probes = [_probing.linear(x_SD, one) for one in asked]
    turn_DD = np.linalg.qr(random.normal(size=(16, 16)))[0]
    planted = score(x_SD, Basis(clean_SD, np.eye(16)), asked, probes, ns=(1,))
    turned = score(x_SD, Basis(clean_SD @ turn_DD.T, turn_DD), asked, probes, ns=(1,))
    assert planted[KEY] == pytest.approx(0.5, abs=0.03)
    assert abs(turned[KEY]) < 0.2
    nothing = score(x_SD, Basis(0 * clean_SD, np.eye(16)), asked, probes, ns=(1, 500))
    assert not any(nothing.values())


def test_atoms_are_what_a_latent_adds_to_the_raw_activation():
    module = dictionaries.make("topk", d_in=6, n_latents=20, k=3)
    variables = module.init(jax.random.key(0), method="declare")
    x_BD = np.asarray(jax.random.normal(jax.random.key(1), (9, 6)))
    one = Trained(module, variables, Norm("unit_mean_sq", np.float32(0.2), np.float32(0.2)))
    rest_BD = one.reconstruct(x_BD) - dense(one.encode(x_BD), 20) @ _documents.atoms(one)
    np.testing.assert_allclose(rest_BD, rest_BD[:1].repeat(9, 0), atol=1e-4)
    other = dictionaries.make("topk", d_in=6, d_out=4, n_latents=20, k=3)
    with pytest.raises(ValueError, match="is a transcoder"):
        _documents.atoms(Trained(other, other.init(jax.random.key(0), method="declare")))
