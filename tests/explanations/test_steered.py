"""A pushed latent writes what it stands for; the scorer `intervention` tells its explanation from another."""

import jax.numpy as jnp
import numpy as np
import pytest

from dictlearn.explanations import Case, InModel, answers, scorers
from dictlearn.explanations.samples import FIRES, Example, Sample
from dictlearn.explanations.scorers.intervention import started
from dictlearn.explanations.steered import steered_of
from dictlearn.runs.trained import Trained
from tests.explanations.fake import Fake
from tests.lm import toy
from tests.steering.conftest import trained

TAP, LATENT = "resid.2", 5
PROMPTS = [(70, 71, 72), (80, 81)]


@pytest.fixture(scope="module")
def lm():
    return toy.spoken_lm()


@pytest.fixture(scope="module")
def token(lm):
    (found,) = lm.tokenizer.encode("Q", add_special_tokens=False).ids
    return found


@pytest.fixture(scope="module")
def dictionary(lm, token):
    """Latent LATENT writes the direction of the last layer that raises the token's logit most."""
    made = trained("relu", TAP, TAP, sparsity=0.1)
    x_BTD = jnp.zeros((1, 2, lm.spec.d_model))
    logits = lambda d_D: lm.forward(
        lm.params, jnp.array([[3, 4]]), {TAP: lambda x, mask, taps: x_BTD + d_D}
    )[0][0, -1]
    raised = [float((r := logits(3 * d))[token] - r.max()) for d in np.eye(lm.spec.d_model)]
    best = np.eye(lm.spec.d_model, dtype=np.float32)[int(np.argmax(raised))]
    params = dict(made.variables["params"])
    params["W_dec_FD"] = params["W_dec_FD"].at[LATENT].set(best)
    return Trained(made.module, {**made.variables, "params": params}, sites=made.sites)


def test_the_same_prompts_and_seed_give_the_same_continuations(lm, dictionary):
    steered = steered_of(InModel(dictionary, lm, (TAP,)), LATENT)
    found = steered(PROMPTS, 8, 0.5, 1)
    assert found == steered(PROMPTS, 8, 0.5, 1)
    assert [len(pair) for pair in found] == [2, 2]
    assert any(clean != pushed for clean, pushed in found)
    assert steered(PROMPTS, 8, 0.5, 2) != found


def test_where_no_strength_gives_the_kl_there_is_no_score(lm, dictionary):
    assert steered_of(InModel(dictionary, lm, (TAP,)), LATENT)(PROMPTS, 8, 1e4, 1) == []
    none = Case(0, "Q", sample(), given={"steered": lambda *how: []})
    assert np.isnan(scorers.plan("intervention", none).result([]).value)


def sample():
    cells, vals = ("a", "b", "c"), (0.0, 2.0, 1.0)
    return Sample([], [], [Example((5, 6, 7), cells, vals, 9, FIRES, vals)] * 4, [], 2.0)


def test_a_prompt_ends_where_the_latent_first_fires():
    assert started(sample().test[0]) == (5, 6)


def test_the_explanation_of_what_the_push_writes_gains_and_another_does_not():
    """The judge expects the words that the passage has."""

    def judge(asked):
        context, text = asked
        return [(word, -0.1 if word in context else -6.0, {}) for word in text.split()]

    writes = lambda texts, *how: [("dogs and birds", "dogs and CATS")] * len(texts)
    score = {}
    for said in ("CATS", "horses", "dogs"):
        plan = scorers.plan("intervention", Case(0, said, sample(), given={"steered": writes}))
        score[said] = plan.result(answers(plan.requests, Fake(judge))).value
    assert score == {"CATS": pytest.approx(5.9), "horses": 0, "dogs": 0}
