"""Scorers against judges whose answers are known."""

import json
import math
import re

import pytest

from dictlearn.explanations import Case, Reply, answers, scorers
from dictlearn.explanations.client import CHAT
from dictlearn.explanations.explain import parsed, request, strength
from dictlearn.explanations.rates import auc, rates
from dictlearn.explanations.scorers import _batches
from tests.explanations.conftest import PLANTED, RANDOM
from tests.explanations.fake import TRIGGER, Fake, constant, explainer, oracle, texts


def score(name, sample, client, **settings):
    case = Case(0, "the word trigger", sample)
    plan = scorers.plan(name, case, **settings)
    return plan.result(answers(plan.requests, client))


def test_rates_are_those_of_the_confusion_matrix():
    truth, said = [True] * 5 + [False] * 5, [True] * 4 + [False] * 4 + [True] * 2
    found = rates(truth, said)
    assert found["balanced_accuracy"] == pytest.approx(0.70)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(0.8)
    assert found["f1"] == pytest.approx(0.727, abs=1e-3)
    half = rates([*truth, True], [*said, None], [0] * 6 + [1] * 5)
    assert half["coverage"] == pytest.approx(10 / 11)
    assert half["balanced_accuracy"] == found["balanced_accuracy"]
    assert half["by_quantile"] == {"0": pytest.approx(5 / 6), "1": 0.5}
    assert math.isnan(rates([True], [True])["balanced_accuracy"])
    assert auc([True, False], [0.2, 0.9]) == 0


@pytest.mark.parametrize("reply", ["[1, 0, 1]", "[1, 0, 2, 0, 1]", "yes", "", "[1, 0, 1, 0, 'a']"])
def test_a_reply_that_cannot_be_read_is_none(reply):
    assert _batches.parsed(reply, 5) is None
    assert _batches.parsed(f"Here: [1,0, 1,0,1]. Then {reply}", 5) == [True, False] * 2 + [True]


@pytest.mark.parametrize("name", ["detection", "fuzzing"])
def test_an_oracle_scores_one_and_a_constant_half(name, sample_of):
    sample = sample_of(PLANTED)
    assert score(name, sample, Fake(oracle)).value == 1
    for answer in (0, 1):
        assert score(name, sample, Fake(constant(answer))).value == 0.5
    silent = score(name, sample, Fake(lambda message: "I cannot say."))
    assert math.isnan(silent.value)
    assert silent.values["coverage"] == 0
    assert silent.values["n_failed"] == silent.values["n"] == 100


@pytest.mark.parametrize("name", ["detection", "fuzzing"])
def test_the_trigger_separates_its_latent_from_a_random_one(name, sample_of):
    assert score(name, sample_of(PLANTED), Fake(oracle)).value == 1
    assert score(name, sample_of(RANDOM), Fake(oracle)).value == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("wrong", ["silent", "active"])
def test_wrong_marks_are_never_on_the_trigger(sample_of, wrong):
    seen = []

    def judge(message):
        seen.extend(texts(message))
        return oracle(message)

    assert score("fuzzing", sample_of(PLANTED), Fake(judge), wrong=wrong).value == 1
    right = [text for text in seen if f"<< {TRIGGER}>>" in text]
    marks = {text: "".join(re.findall("<<(.*?)>>", text)) for text in seen}
    assert [text for text in seen if TRIGGER in marks[text]] == right
    assert (len(right), len(seen)) == (50, 100)
    assert all("<<" in text for text in seen)


def test_probabilities_of_answers_give_the_area_under_the_curve(sample_of):
    def judge(request):
        said = oracle(request.messages[-1][1])
        tops = {"0": {"1": math.log(0.4), "0": math.log(0.6)}, "1": {"1": 0.0}}
        digits = [(one, 0.0, tops[one]) for one in said if one in "01"]
        assert request.alternatives
        return Reply("[0]", tuple(digits))

    judge.name, judge.at_once = "judge", 1
    found = score("detection", sample_of(PLANTED), judge, probabilities=True)
    assert found.values["auc"] == 1
    assert math.isnan(found.value)


def test_an_explanation_is_made_from_train_windows_and_read_after_its_marker(sample_of):
    sample = sample_of(PLANTED, n_contrast=3)
    asked = request(sample)
    message = asked.messages[-1][1]
    assert asked.kind == CHAT
    assert all(one.marked(one.firing()) in message for one in sample.train)
    assert not any(one.text in message for one in (*sample.test, *sample.silent))
    assert all(one.text in message for one in sample.contrast)
    (reply,) = answers([asked], Fake(explainer))
    assert parsed(reply.text) == f"the word {TRIGGER}"
    assert parsed("the word") is parsed("[EXPLANATION]: ") is None
    assert [strength(val, 2.0) for val in (0.0, 0.01, 1.0, 2.0)] == [0, 1, 5, 10]


def truth_of(sample):
    """A simulator's replies: strengths that the windows have, times 3, plus 2."""
    vals = {json.dumps(one.cells): one.vals for one in (*sample.test, *sample.silent)}

    def say(message):
        return str([3 * val + 2 for val in vals[message.rpartition("Tokens: ")[2]]])

    return say


def test_a_linear_simulation_is_right_and_a_constant_one_has_no_score(sample_of):
    sample = sample_of(PLANTED)
    found = score("simulation", sample, Fake(truth_of(sample)))
    assert found.value == pytest.approx(1)
    assert min(found.values["by_quantile"].values()) == pytest.approx(1)
    flat = score("simulation", sample, Fake(lambda message: str([4] * 32)))
    assert math.isnan(flat.value)
    assert flat.values["coverage"] == 1
    assert score("simulation", sample, Fake(lambda message: "[1]")).values["n_failed"] == 20


def test_the_intruder_is_found_by_its_mark(sample_of):
    def judge(message):
        numbered = re.findall(r"^Text (\d+): (.*)$", message, re.MULTILINE)
        other = [i for i, text in numbered if f"<< {TRIGGER}>>" not in text]
        return f"Text {other[0]}" if other else "0"

    assert score("intruder", sample_of(PLANTED), Fake(judge)).value == 1
    guess = score("intruder", sample_of(PLANTED), Fake(lambda message: "2"), n_questions=50)
    assert guess.value == pytest.approx(0.2, abs=0.2)
    assert guess.values["n"] == 50
    wrong = score("intruder", sample_of(PLANTED), Fake(lambda message: "9"))
    assert math.isnan(wrong.value)


def test_surprisal_and_embedding_rank_the_windows_that_fire_first(sample_of):
    def model(asked):
        """Expects the trigger where the context names it."""
        context, text = asked
        named = -0.1 if TRIGGER in context else -6.0
        return [(word, named if word == TRIGGER else -3.0, {}) for word in text.split()]

    found = score("surprisal", sample_of(PLANTED), Fake(model))
    assert found.value == 1
    assert found.values["gain"] > 5.9 > found.values["gain_silent"] == 0
    vector = lambda text: (float(TRIGGER in text), 0.3)
    assert score("embedding", sample_of(PLANTED), Fake(vector)).value == 1
    assert score("embedding", sample_of(PLANTED), Fake(lambda text: (1.0, 1.0))).value == 0.5
    assert score("surprisal", sample_of(RANDOM), Fake(model)).value == pytest.approx(0.5, abs=0.15)


def test_unknown_scorers_and_settings_are_answered_with_those_there_are():
    with pytest.raises(ValueError, match=r"'guess'.*detection"):
        scorers.make("guess")
    with pytest.raises(ValueError, match=r"'size'.*probabilities"):
        scorers.plan("detection", Case(0, "", None), size=3)
