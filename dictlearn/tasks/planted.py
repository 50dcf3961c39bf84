"""Made-up sentences, each with a word of one class: a task that needs no data, and that words alone decide.

"the old road apple near water was"        the class: fruit

With `weather=1` each sentence has a word of one of two kinds of weather too, an attribute that is independent
of the class; with more, so many words of one kind.
"""

import numpy as np

from dictlearn.tasks._task import Task
from dictlearn.tasks._words import CLASSES

_WEATHERS = {
    "wet": ("rain", "snow", "fog", "storm"),
    "dry": ("sun", "heat", "dust", "drought"),
}
_OTHERS = (
    *(
        "the",
        "a",
        "old",
        "new",
        "road",
        "water",
        "house",
        "near",
        "far",
        "under",
        "was",
        "is",
        "and",
    ),
    *("or", "then", "again", "little", "great", "door", "table", "night", "day", "long", "short"),
    *("over", "from", "with", "without", "before", "after", "some", "many", "one", "two", "three"),
)


def planted(*, n: int = 200, length: int = 8, weather: int = 0, seed: int = 0) -> Task:
    """Makes the sentences.

    Args:
        n: the number of sentences of each of the five classes.
        length: the number of words of a sentence, without the weather.
        weather: the number of words of the attribute "weather" ("wet" or "dry") in each sentence too.
        seed: the seed of the words.

    Returns:
        The Task, without a split.

    Raises:
        ValueError: for no sentence or no word.
    """
    if n < 1 or length < 1:
        raise ValueError(f"{n=} sentences of {length=} words; both must be at least 1.")
    random = np.random.default_rng(seed)
    text, label = [], []
    for name, own in CLASSES.items():
        for _ in range(n):
            words = random.choice(_OTHERS, length)
            words[random.integers(length)] = random.choice(own)
            text.append(" ".join(words))
            label.append(name)
    found = Task(tuple(text), np.array(label))
    return _with_weather(found, weather, random) if weather else found


def _with_weather(task: Task, n: int, random: np.random.Generator) -> Task:
    """The sentences with n more words at random places."""
    kinds = list(_WEATHERS)
    kind_S = np.arange(len(task.text)) % len(kinds)
    text = []
    for sentence, kind in zip(task.text, kind_S, strict=True):
        words = sentence.split()
        for _ in range(n):
            words.insert(random.integers(len(words) + 1), random.choice(_WEATHERS[kinds[kind]]))
        text.append(" ".join(words))
    return Task(tuple(text), task.label_S, attributes={"weather": np.array(kinds)[kind_S]})
