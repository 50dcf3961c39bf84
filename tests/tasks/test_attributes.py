"""Attributes of packaged and made tasks say what the documents have."""

import numpy as np
import pytest

from dictlearn import tasks
from dictlearn.tasks.planted import _WEATHERS


def test_leads_have_a_language_and_a_topic_and_either_is_the_label():
    by_language, by_topic = (tasks.make("languages", label=one) for one in ("language", "topic"))
    assert by_topic.text == by_language.text
    np.testing.assert_array_equal(by_topic.label_S, by_language.attributes["topic"])
    np.testing.assert_array_equal(by_topic.attributes["language"], by_language.label_S)
    found = {*zip(by_language.label_S.tolist(), by_topic.label_S.tolist(), strict=True)}
    assert len(found) == 3 * 8
    words = {"Spanish": " y ", "French": " et ", "English": " and "}
    for language in words:
        own = by_topic.where(by_topic.attributes["language"] == language).of(["People"])
        share = {each: np.mean([word in text for text in own.text]) for each, word in words.items()}
        assert max(share, key=share.__getitem__) == language
    with pytest.raises(ValueError, match=r"label='title'.*language, topic"):
        tasks.make("languages", label="title")


def test_sentences_have_as_many_words_of_their_weather_as_were_asked_for():
    task = tasks.make("planted", n=4, length=5, weather=2)
    for text, kind in zip(task.text, task.attributes["weather"], strict=True):
        words = text.split()
        assert len(words) == 7
        assert sum(word in _WEATHERS[kind] for word in words) == 2
    assert "weather" not in tasks.make("planted", n=4).attributes
