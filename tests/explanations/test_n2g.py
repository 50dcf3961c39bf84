"""N2G finds planted patterns, fails where it is known to, and separates the trigger from noise."""

import zlib

import numpy as np
import pytest

from dictlearn.explanations import Case, scorers
from dictlearn.explanations.n2g import ANY, START, build
from tests.explanations.conftest import PLANTED, RANDOM
from tests.explanations.test_conformance import codes

A, B, C, D, E, PAD = 1, 2, 3, 4, 5, 0


def of(rule):
    """Activations of a rule of (tokens so far) on texts."""
    return lambda texts: [
        np.array([float(rule(text[: i + 1])) for i in range(len(text))]) for text in texts
    ]


def test_a_single_token_is_found_in_any_place():
    trie = build([((A, B, C), 2), ((B, C, D), 1)], of(lambda text: text[-1] == C), PAD)
    assert trie.predict([C, B, C]) == [1, 0, 1]
    assert trie.predict([B, C]) == [0, 1]
    assert trie.predict([A, A, A]) == [0, 0, 0]
    assert trie.patterns() == [([C], 1.0)]


def test_the_first_place_of_a_text_needs_its_beginning():
    trie = build([((A, B, C), 0), ((C, B, D), 0)], of(lambda text: len(text) == 1), PAD)
    assert trie.predict([B, D, A]) == [1, 0, 0]
    assert trie.predict([B, D, A], begins=False) == [0, 0, 0]
    assert trie.patterns() == [([START, ANY], 1.0)]


def test_a_token_after_an_earlier_one_and_the_gap_that_is_not_learned():
    rule = of(lambda text: text[-1] == C and A in text[:-1])
    trie = build([((A, B, C), 2), ((B, A, C), 2), ((A, C, D), 1)], rule, PAD)
    assert trie.predict([A, C]) == [0, 1]
    assert trie.predict([A, E, C, A, C]) == [0, 0, 1, 0, 1]
    assert trie.predict([B, C]) == [0, 0]
    assert trie.predict([A, B, B, C]) == [0, 0, 0, 0]


def test_without_texts_nothing_is_predicted():
    assert build([], of(lambda text: True), PAD).predict([A, B]) == [0, 0]
    assert build([((A, B), 1)], of(lambda text: False), PAD).patterns() == []


def noise(texts):
    """Fires on a share of all texts, whatever their tokens."""
    at = lambda text: zlib.crc32(np.array(text).tobytes()) % 80 == 0
    return of(at)(texts)


def given(codes):
    return {"codes": codes, "pad": 0}


def test_the_trigger_scores_one_and_noise_a_half(sample_of):
    plan = scorers.plan("n2g", Case(PLANTED, "", sample_of(PLANTED), given=given(codes)))
    found = plan.result([])
    assert (found.value, found.values["f1"], found.values["patterns"]) == (1, 1, 1)
    plan = scorers.plan("n2g", Case(RANDOM, "", sample_of(RANDOM), given=given(noise)))
    assert plan.result([]).value == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ValueError, match="no codes"):
        scorers.plan("n2g", Case(PLANTED, "", sample_of(PLANTED)))
