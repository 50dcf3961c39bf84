"""SAEBench's protocol: its windows, its score of known judges, and its replies."""

import math
import re

import pytest

from dictlearn.explanations import Case, Reply, Sampling, answers, scorers
from dictlearn.explanations.autointerp import draw, parsed, request
from dictlearn.explanations.scorers import autointerp
from tests.explanations.conftest import PLANTED, texts_of
from tests.explanations.fake import TRIGGER, Fake


@pytest.fixture(scope="module")
def sample(events):
    return draw(events, PLANTED, texts_of, Sampling())


def score(sample, say):
    plan = scorers.plan("autointerp", Case(0, f"the word {TRIGGER}", sample))
    return plan.result(answers(plan.requests, Fake(say)))


def judge(message):
    found = re.findall(rf"^(\d+)\. .*{TRIGGER}", message, re.MULTILINE)
    return ", ".join(found) or "None"


def test_a_judge_that_knows_the_trigger_is_right_and_none_is_ten_of_fourteen(sample):
    found = score(sample, judge)
    wrong = sum(max(one.vals) > 0 for one in sample.silent)
    assert found.value == (14 - wrong) / 14
    assert found.values["balanced_accuracy_true"] == 1
    silent = sample._replace(silent=[one for one in sample.silent if max(one.vals) == 0])
    assert score(silent, judge).value == 1
    assert score(sample, lambda message: "None").value == pytest.approx(10 / 14)
    assert score(sample, lambda message: "None").values["balanced_accuracy"] == 0.5
    assert math.isnan(score(sample, lambda message: "3, x").value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1, 2 and 14.", [1, 2, 14]),
        ("None.", []),
        ("3, x", None),
        ("15", None),
        ("", None),
        ("7", [7]),
    ],
)
def test_replies_are_lists_of_numbers_or_nothing(text, wanted):
    assert autointerp.parsed(text, 14) == wanted


def test_windows_are_of_the_peaks_and_do_not_overlap(sample, events):
    assert [len(sample.train), len(sample.test), len(sample.silent)] == [15, 4, 10]
    every = [*sample.train, *sample.test, *sample.silent]
    assert {len(one.tokens) for one in every} == {21}
    assert len({one.tokens for one in every}) == 29
    peaks = [one.token_vals[10] for one in (*sample.train, *sample.test)]
    assert min(peaks) > 0
    strongest = sorted(peaks, reverse=True)[:12]
    place_E, val_E = events.of(PLANTED)
    middle = val_E[(place_E % events.length >= 10) & (place_E % events.length < events.length - 10)]
    assert strongest[0] == max(middle) == pytest.approx(sample.largest, rel=0.05)
    assert draw(events, PLANTED, texts_of, Sampling()) == sample
    assert draw(events, PLANTED, texts_of, Sampling(seed=1)).silent != sample.silent


def test_an_explanation_is_asked_with_marks_and_read_after_its_words(sample):
    asked = request(sample, seed=3)
    (_, (_, message)) = asked.messages
    assert message.count(f"<< {TRIGGER}>>") >= 15
    assert asked.max_tokens == 30
    assert not any(one.text in message for one in sample.test)
    reply = Reply(f"This latent activates on the word {TRIGGER}.")
    assert parsed(reply.text) == f"the word {TRIGGER}"
    assert parsed("the word") is None
