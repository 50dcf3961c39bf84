"""A new scorer is one new file, also with a new need of the model: it is found, and conformance holds."""

import pytest

from tests.dropin import drop_in

SCORER = '''
"""Whether a judge says yes to the explanation and the length of the latent's atom (a test's scorer)."""

import math

import numpy as np

from dictlearn.explanations import templates
from dictlearn.explanations.case import Case, Plan, Score
from dictlearn.explanations.client import CHAT, Request



def length_of(model, latent):
    """The length of the latent's atom."""
    return float(np.linalg.norm(model.dictionary.variables["params"]["W_dec_FD"][latent]))


NEEDS = {"length": length_of}


def dropped_in(case: Case, *, yes: str = "yes") -> Plan:
    """The plan.

    Args:
        case: the latent.
        yes: the answer.

    Returns:
        A Plan.
    """
    request = Request(CHAT, (("user", f"{case.explanation}, {case.need('length'):.3f}"),))

    def result(replies):
        said = [reply.text in (yes, "no") for reply in replies]
        found = {"n_failed": said.count(False), "coverage": said.count(True) / len(said)}
        value = float(replies[0].text == yes) if said[0] else math.nan
        return Score(value, found)

    return Plan([request], result, templates.load("detection").label)
'''
SUITE = "tests/explanations/test_conformance.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    guessing = SCORER.replace("if said[0] else math.nan", "")
    assert guessing != SCORER
    files = {"dropped_in": SCORER, "guessing": guessing.replace("dropped_in", "guessing")}
    files = {f"explanations/scorers/{name}": text for name, text in files.items()}
    chosen = "dropped_in or guessing and cannot_be_read"
    return drop_in(tmp_path_factory.mktemp("new"), files, SUITE, chosen)


def test_one_dropped_in_scorer_passes_conformance_untouched(found):
    passed, failed, log = found["dropped_in"]
    assert len(passed) == 5, log
    assert not failed, log


def test_a_scorer_that_takes_a_failed_reply_for_an_answer_is_caught(found):
    assert len(found["guessing"].failed) == 1, found["guessing"].log
