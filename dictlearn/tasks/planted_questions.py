"""Made-up questions on the words of the task `planted`: which of four words is of a class.

Which word is a fruit?    A. iron    B. plum    C. wolf    D. red
"""

import numpy as np

from dictlearn.tasks import _choices
from dictlearn.tasks._task import Task
from dictlearn.tasks._words import CLASSES


def planted_questions(*, n: int = 8, seed: int = 0) -> Task:
    """Makes the questions.

    Args:
        n: the number of questions on each of the five classes.
        seed: the seed of the wrong options and of the order.

    Returns:
        The Task, whose documents are the questions and whose labels are the classes.

    Raises:
        ValueError: for no question.
    """
    if n < 1:
        raise ValueError(f"{n=} questions on each class; at least 1 is needed.")
    random = np.random.default_rng(seed)
    found = []
    for name, own in CLASSES.items():
        others = [each for each in CLASSES if each != name]
        article = "an" if name[0] in "aeiou" else "a"
        for i in range(n):
            wrong = [random.choice(CLASSES[one]) for one in random.permutation(others)[:3]]
            right = int(random.integers(len(_choices.LETTERS)))
            options = (*wrong[:right], own[i % len(own)], *wrong[right:])
            question = f"Which word is {article} {name}?"
            found.append((question, name, tuple(map(str, options)), _choices.LETTERS[right]))
    return _choices.task("planted_questions", found)
