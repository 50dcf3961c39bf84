"""Draws are even over classes and attributes, splits are apart, and half of the examples are positive."""

import numpy as np
import pytest

from dictlearn import tasks
from dictlearn.tasks import Task


def task(counts, split=False, kinds=1):
    """A task with so many documents of each class; text, split and kind are functions of the index."""
    label_S = np.repeat(list(counts), list(counts.values()))
    n = np.arange(len(label_S))
    split_S = np.where(n % 4 == 0, "test", "train") if split else None
    return Task(tuple(map(str, n)), label_S, split_S, {"kind": (n % kinds).astype(str)})


def test_every_class_gives_as_many_documents_as_asked_or_as_the_smallest_has():
    whole = task({"a": 90, "b": 40, "c": 200})
    drawn = tasks.draw(whole, 40, 20)
    assert np.bincount(drawn.class_S).tolist() == [30, 30, 30]
    assert drawn.n_train == 20
    fewer = tasks.draw(whole, 400, 100)
    assert np.bincount(fewer.class_S).tolist() == [40, 40, 40]
    assert fewer.n_train == 32
    label = dict(zip(whole.text, whole.label_S, strict=True))
    assert [label[text] for text in drawn.text] == [drawn.classes[c] for c in drawn.class_S]
    assert len(set(drawn.text)) == 90


def test_an_attribute_is_balanced_in_every_class():
    whole = task({"a": 90, "b": 60}, kinds=3)
    drawn = tasks.draw(whole, 30, 12, balance="kind")
    kind = dict(zip(whole.text, whole.attributes["kind"], strict=True))
    for c in (0, 1):
        own = [kind[text] for text, of in zip(drawn.text, drawn.class_S, strict=True) if of == c]
        assert {one: own.count(one) for one in "012"} == {"0": 7, "1": 7, "2": 7}


@pytest.mark.parametrize("split", [False, True])
def test_questions_have_halves_and_no_test_document_in_train(split):
    whole = task({"a": 80, "b": 80, "c": 80, "d": 80}, split=split)
    drawn = tasks.draw(whole, 24, 12)
    asked = tasks.questions(drawn)
    assert [one.name for one in asked] == ["a", "b", "c", "d"]
    sides = dict(zip(whole.text, whole.split_S if split else [], strict=split))
    tested = {s for one in asked for s in one.test_S}
    for i, one in enumerate(asked):
        assert (len(one.train_S), len(one.test_S)) == (24, 12)
        assert not tested & set(one.train_S.tolist())
        for chosen_S, side in ((one.train_S, "train"), (one.test_S, "test")):
            assert np.array_equal(one.positive(chosen_S), drawn.class_S[chosen_S] == i)
            others = np.bincount(drawn.class_S[chosen_S], minlength=4)
            assert others.tolist() == [
                len(chosen_S) // 2 if j == i else len(chosen_S) // 6 for j in range(4)
            ]
            assert not split or {sides[drawn.text[s]] for s in chosen_S} == {side}


def test_seeds_draw_others_and_the_same_seed_the_same():
    drawn = tasks.draw(task({"a": 80, "b": 80}), 40, 10)
    train = lambda seed: tasks.questions(drawn, seed)[0].train_S.tolist()
    assert train(0) == train(0) != train(1)


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ValueError, match="a question needs two"):
        tasks.draw(task({"a": 9}), 4, 4)
    with pytest.raises(
        ValueError, match="balance='age' is not an attribute of the task; there are kind"
    ):
        tasks.draw(task({"a": 9, "b": 9}), 4, 4, balance="age")
    with pytest.raises(ValueError, match="at least 2"):
        tasks.draw(task({"a": 9, "b": 9}), 4, 1)
    with pytest.raises(ValueError, match="one to train and one to test"):
        tasks.draw(task({"a": 9, "b": 1}), 4, 4)
