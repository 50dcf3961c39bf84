"""The strength is calibrated by the KL, and the effect on the predictions is what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn import lm as language
from dictlearn.steering import Intervention, calibrate, calibrated, edits_of, effects, whole

from .conftest import trained

TOKENS = [[3, 250, 17, 9, 40], [8, 1, 77]] * 5
LOGITS_V = jax.random.normal(jax.random.key(0), (50,))
V_V = jax.random.normal(jax.random.key(1), (50,))


def kl_of(strength, bound=np.inf):
    """The KL of a softmax with logits + s v."""
    p, q = (jax.nn.log_softmax(LOGITS_V + s * V_V) for s in (0, min(strength, bound)))
    return float((jnp.exp(p) * (p - q)).sum())


@pytest.mark.parametrize("target", [1e-4, 0.05, 0.5, 3.0])
def test_bisection_lands_within_ten_per_cent_of_the_target(target):
    strength, kl = calibrate(kl_of, target)
    assert kl == pytest.approx(kl_of(strength))
    assert abs(kl - target) <= 0.1 * target


def test_a_finer_tolerance_is_met():
    _, kl = calibrate(kl_of, 0.5, tolerance=1e-3)
    assert abs(kl - 0.5) <= 5e-4


def test_a_target_that_no_strength_reaches_is_refused_with_the_largest():
    with pytest.raises(ValueError, match=rf"3 nats.*{kl_of(0.5):.3g}"):
        calibrate(lambda strength: kl_of(strength, bound=0.5), 3.0)
    with pytest.raises(ValueError, match=r"jumps over 1 nats near the strength 2 "):
        calibrate(lambda strength: 0.0 if strength < 2.0 else 5.0, 1.0)
    for target in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="target="):
            calibrate(kl_of, target)


def test_the_effect_is_the_mean_over_the_changed_tokens(lm):
    dictionary, given = trained("topk", k=4), language.prompts(lm, TOKENS)
    one = Intervention("add", (3,), positions="prompt")
    (found,) = effects(lm, dictionary, one, given, [6.0])
    put = edits_of(lm, dictionary, one, given, 6.0).prompt
    p, q = (
        jax.nn.log_softmax(lm.forward(lm.params, given.tokens_BP, edits, whole(given))[0])
        for edits in ({}, put)
    )
    counted = whole(given) & (np.arange(given.tokens_BP.shape[1]) > 0)
    kl = (jnp.exp(p) * (p - q)).sum(-1)[counted].mean()
    gain_V = (jnp.exp(q) - jnp.exp(p))[counted].mean(0)
    assert found.kl == pytest.approx(float(kl), rel=1e-4)
    np.testing.assert_allclose(found.gain_V, gain_V, atol=1e-6)
    assert [token for token, _ in found.raised(3)] == np.argsort(-gain_V)[:3].tolist()
    assert found.kl > 1e-3


def test_a_push_is_calibrated_on_a_model(lm):
    dictionary, given = trained("topk", k=4), language.prompts(lm, TOKENS[:2])
    effect = calibrated(lm, dictionary, Intervention("add", (3,)), given, 0.05)
    assert abs(effect.kl - 0.05) <= 0.005
    (again,) = effects(lm, dictionary, Intervention("add", (3,), effect.strength), given, [0.0])
    assert again.kl == pytest.approx(effect.kl)


def test_what_has_no_kl_is_refused(lm):
    dictionary, given = trained("topk", k=4), language.prompts(lm, TOKENS[:2])
    with pytest.raises(ValueError, match="No token of the prompts"):
        effects(lm, dictionary, Intervention("add", (3,), positions="generated"), given, [1.0])
    with pytest.raises(ValueError, match="Every intervention has a value"):
        calibrated(lm, dictionary, Intervention("add", (3,), 2.0), given, 0.5)
