"""Equally many documents of each class, and the question of each class: has a document this label?

The positive examples of a question are all documents of the class. As many negative ones are drawn from the
other classes, evenly. So chance is 1/2 for every question.

Source: SAEBench 8042bb3.
Differs: the draws are NumPy's; SAEBench's are of pandas and torch.
"""

import math
from typing import NamedTuple

import numpy as np

from dictlearn.tasks._task import TEST, TRAIN, Task


class Drawn(NamedTuple):
    """Documents of a task, equally many of each class.

    Args:
        text: the documents.
        classes: the names of the classes.
        class_S: the class of each document.
        test_S: whether it is a test document by the split of the data set; None without a split.
        n_train: the number of train documents of each class.

    Example:
        >>> Drawn(("a", "b"), ("x", "y"), np.array([0, 1]), None, 1).classes
        ('x', 'y')
    """

    text: tuple[str, ...]
    classes: tuple[str, ...]
    class_S: np.ndarray
    test_S: np.ndarray | None
    n_train: int


class Question(NamedTuple):
    """Whether a document has the label of one class.

    Args:
        name: the class.
        train_S, test_S: the documents, by their index in `Drawn.text`; the first half of each is positive.

    Example:
        >>> Question("x", np.array([0, 1]), np.array([2, 3])).positive(np.array([2, 3])).tolist()
        [True, False]
    """

    name: str
    train_S: np.ndarray
    test_S: np.ndarray

    @staticmethod
    def positive(chosen_S: np.ndarray) -> np.ndarray:
        """Whether each document of `train_S` or `test_S` has the label."""
        return np.arange(len(chosen_S)) < len(chosen_S) // 2


def draw(task: Task, n_train: int, n_test: int, *, balance: str = "", seed: int = 0) -> Drawn:
    """Draws equally many documents of each class.

    Args:
        task: the task.
        n_train, n_test: the numbers of examples of each question, half of which are of the class. Where a class
            has fewer documents, every class gives as many as the smallest, in the same proportion.
        balance: an attribute of which each value has as many documents in every class; empty for none.
        seed: the seed of the draw.

    Returns:
        A Drawn.

    Raises:
        ValueError: for fewer than two classes, too few documents, and an unknown attribute.

    Example:
        >>> draw(Task(tuple("abcdefgh"), np.array(list("xxxxyyyy"))), n_train=4, n_test=2).n_train
        2
    """
    classes = _checked(task, n_train, n_test, balance)
    kind_S = task.attributes[balance] if balance else np.zeros(len(task.text), str)
    random = np.random.default_rng(seed)
    some = lambda there_S, n: _even(random, task, classes, kind_S, there_S, n // 2)
    if task.split_S is None:
        chosen_S, n_of, test_S = some(np.ones(len(kind_S), bool), n_train + n_test), None, None
    else:
        train_S, rest_S = some(task.split_S == TRAIN, n_train), some(task.split_S == TEST, n_test)
        chosen_S, n_of = np.concatenate([train_S, rest_S]), len(train_S) // len(classes)
        test_S = np.arange(len(chosen_S)) >= len(train_S)
    n_of = n_of or _trained(len(chosen_S) // len(classes), n_train, n_test)
    class_S = np.searchsorted(classes, task.label_S[chosen_S])
    return Drawn(tuple(task.text[s] for s in chosen_S), classes, class_S, test_S, n_of)


def _checked(task: Task, n_train: int, n_test: int, balance: str) -> tuple[str, ...]:
    """The classes, sorted. Raises ValueError for fewer than two, an unknown attribute, and no documents."""
    classes = tuple(sorted(task.counts))
    if len(classes) < 2:
        raise ValueError(f"the task has the labels {list(classes)}; a question needs two.")
    if balance and balance not in task.attributes:
        there = ", ".join(task.attributes) or "none"
        raise ValueError(f"{balance=} is not an attribute of the task; there are {there}.")
    if min(n_train, n_test) < 2:
        raise ValueError(f"{n_train=} and {n_test=} must be at least 2, one document of each side.")
    return classes


def _trained(each: int, n_train: int, n_test: int) -> int:
    """How many of `each` documents of a class are for training, in the proportion asked for."""
    if each < 2:
        raise ValueError("a class has one document; a question needs one to train and one to test.")
    return min(each - 1, max(1, each * n_train // (n_train + n_test)))


def _even(
    random: np.random.Generator,
    task: Task,
    classes: tuple[str, ...],
    kind_S: np.ndarray,
    there_S: np.ndarray,
    n: int,
) -> np.ndarray:
    """At most `n` documents of each class, equally many of each kind in each class."""
    kinds = np.unique(kind_S[there_S])
    cells = [
        np.flatnonzero(there_S & (task.label_S == one) & (kind_S == kind))
        for one in classes
        for kind in kinds
    ]
    each = min((n // max(len(kinds), 1), *map(len, cells)))
    if each < 1:
        raise ValueError(
            f"{n} documents of each of {len(classes)} classes and {len(kinds)} kinds: a class has none of a "
            "kind, or fewer than one of each is asked for; leave out classes, or ask for more."
        )
    return np.concatenate([random.permutation(cell)[:each] for cell in cells])


def questions(drawn: Drawn, seed: int = 0) -> list[Question]:
    """The question of each class.

    Args:
        drawn: the documents.
        seed: the seed of the negative examples and, where the data set has no split, of the split.

    Returns:
        A Question for each class.

    Example:
        >>> task = Task(tuple("abcdefgh"), np.array(list("xxxxyyyy")))
        >>> [one.train_S.size for one in questions(draw(task, n_train=4, n_test=4))]
        [4, 4]
    """
    random = np.random.default_rng(seed)
    sides = _split(drawn, random)
    asked = lambda i, side: _with_negatives(random, [each[side] for each in sides], i)
    return [Question(name, asked(i, 0), asked(i, 1)) for i, name in enumerate(drawn.classes)]


def split(drawn: Drawn, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """The train and the test documents of each class, in a random order.

    Args:
        drawn: the documents.
        seed: the seed of the order and, where the data set has no split, of the split.

    Returns:
        (train_S, test_S) of each class, by their index in `Drawn.text`.

    Example:
        >>> task = Task(tuple("abcdefgh"), np.array(list("xxxxyyyy")))
        >>> [len(train_S) for train_S, _ in split(draw(task, n_train=4, n_test=4))]
        [2, 2]
    """
    return _split(drawn, np.random.default_rng(seed))


def _split(drawn: Drawn, random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    sides = []
    for one in range(len(drawn.classes)):
        own_S = random.permutation(np.flatnonzero(drawn.class_S == one))
        if drawn.test_S is None:
            sides.append((own_S[: drawn.n_train], own_S[drawn.n_train :]))
        else:
            sides.append((own_S[~drawn.test_S[own_S]], own_S[drawn.test_S[own_S]]))
    return sides


def _with_negatives(random, by_class: list[np.ndarray], at: int) -> np.ndarray:
    """The documents of a class, then as many of the others."""
    own_S = by_class[at]
    others = [one for i, one in enumerate(by_class) if i != at]
    each = math.ceil(len(own_S) / len(others))
    negative_S = np.concatenate([random.permutation(one)[:each] for one in others])
    return np.concatenate([own_S, random.permutation(negative_S)[: len(own_S)]])
