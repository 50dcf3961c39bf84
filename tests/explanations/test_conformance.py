"""Conformance of every scorer: a new file in the folder is tested here, on planted windows and fake clients."""

import functools
import inspect
import json

import numpy as np
import pytest

from dictlearn.explanations import Case, InModel, Plan, answers, scorers
from dictlearn.explanations.client import CHAT, EMBED, TEXT
from tests.explanations.conftest import PLANTED
from tests.explanations.fake import TRIGGER, Fake
from tests.lm import toy
from tests.steering.conftest import trained

NAMES = scorers.names()
every = pytest.mark.parametrize("name", NAMES)
TAP = "resid.1"


def codes(texts):
    """The planted latent on any tokens."""
    return [(np.array(tokens) == 7).astype(np.float32) for tokens in texts]


PLANTED_GIVEN = {
    "codes": codes,
    "pad": 0,
    "steered": lambda texts, *how: [("w1 w2", f"w1 {TRIGGER}")] * len(texts),
}
"""What the model would give of the planted latent. Of any other need, a toy model gives it."""


@functools.cache
def in_model():
    """A dictionary in a toy model."""
    return InModel(trained("relu", TAP, TAP, sparsity=0.1), toy.spoken_lm(), (TAP,))


@pytest.fixture
def case(name, sample_of):
    needs = scorers.needs(name)
    new = {n: make(in_model(), PLANTED) for n, make in needs.items() if n not in PLANTED_GIVEN}
    given = new | {each: PLANTED_GIVEN[each] for each in needs if each not in new}
    return Case(PLANTED, f"the word {TRIGGER}", sample_of(PLANTED), given=given)


def unreadable(asked):
    """What a client says that cannot be used: other words, and a text without tokens."""
    return () if isinstance(asked, tuple) else "I cannot say."


def equal(text):
    """A vector that all texts have."""
    return (1.0,)


@every
def test_it_is_a_function_of_a_case_whose_settings_have_defaults(name):
    made = scorers.make(name)
    assert inspect.signature(made).return_annotation is Plan
    first, *settings = inspect.signature(made).parameters.values()
    assert first.name == "case"
    assert all(each.kind is each.KEYWORD_ONLY for each in settings)
    assert all(each.default is not each.empty for each in settings)
    for section in ("Args:", "Returns:"):
        assert section in inspect.getdoc(made)


@every
def test_its_plan_is_a_function_of_the_case(name, case):
    a, b = scorers.plan(name, case), scorers.plan(name, case)
    assert a.requests == b.requests
    kinds = {one.kind for one in a.requests}
    assert bool(a.prompt) == (CHAT in kinds or TEXT in kinds)


@every
def test_replies_that_cannot_be_read_are_no_answers(name, case):
    plan = scorers.plan(name, case)
    if not {one.kind for one in plan.requests} & {CHAT, TEXT}:
        pytest.skip("it reads no replies in words")
    found = plan.result(answers(plan.requests, Fake(unreadable)))
    assert np.isnan(found.value)
    assert found.values["n_failed"] > 0
    assert found.values["coverage"] == 0
    json.dumps(found.values)


@every
def test_it_reads_of_the_model_what_it_needs_and_says_what_lacks(name, case):
    for lacking in scorers.needs(name):
        less = {each: what for each, what in case.given.items() if each != lacking}
        with pytest.raises(ValueError, match=f"no {lacking}, which is made from the model"):
            scorers.plan(name, case._replace(given=less))


@every
def test_a_case_without_windows_has_no_score(name, case):
    none = case._replace(sample=case.sample._replace(train=[], test=[], silent=[]))
    plan = scorers.plan(name, none)
    client = Fake(equal if EMBED in {one.kind for one in plan.requests} else unreadable)
    assert np.isnan(plan.result(answers(plan.requests, client)).value)
