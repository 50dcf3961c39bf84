"""Sentences that end before a verb, each with its subject in the other number: does the verb agree with it?

    simple        "The drivers"                      patch: "The driver"
    within_rc     "The pilot that the drivers"       patch: "The pilot that the driver"
    across_rc     "The drivers that the pilot sees"  patch: "The driver that the pilot sees"
    across_pp     "The drivers near the table"       patch: "The driver near the table"

The other noun has a number of its own, in half of the sentences the subject's. A tokenizer that has a token for
each word aligns a sentence with its patch.

Source: the structures of Finlayson et al. 2021 (arXiv:2106.06087) that Marks et al. 2024 use
(arXiv:2403.19647); the words are our own.
"""

import numpy as np

from dictlearn.tasks._task import Task

NOUNS = {
    **{"man": "men", "woman": "women", "child": "children"},
    **{"boy": "boys", "girl": "girls", "teacher": "teachers", "student": "students"},
    **{"doctor": "doctors", "driver": "drivers", "worker": "workers", "friend": "friends"},
    **{"parent": "parents", "king": "kings", "queen": "queens", "farmer": "farmers"},
    **{"author": "authors", "writer": "writers", "manager": "managers", "player": "players"},
    **{"singer": "singers", "actor": "actors", "officer": "officers", "pilot": "pilots"},
    **{"lawyer": "lawyers", "guard": "guards", "artist": "artists", "dog": "dogs", "cat": "cats"},
}
THINGS = {
    **{"key": "keys", "door": "doors", "car": "cars", "house": "houses", "tree": "trees"},
    **{"book": "books", "table": "tables", "chair": "chairs", "picture": "pictures"},
    **{"box": "boxes", "window": "windows", "bridge": "bridges", "garden": "gardens"},
    **{"school": "schools", "building": "buildings", "computer": "computers"},
}
SEES = {"sees": "see", "knows": "know", "likes": "like", "loves": "love", "hears": "hear"}
SEES |= {"helps": "help", "meets": "meet", "follows": "follow", "visits": "visit"}
VERBS = (("is", "are"), ("was", "were"), ("has", "have"))
"""The answers: singular and plural."""
NUMBERS = ("singular", "plural")
STRUCTURES = {
    "simple": "The {subject}",
    "within_rc": "The {other} that the {subject}",
    "across_rc": "The {subject} that the {other} {sees}",
    "across_pp": "The {subject} near the {thing}",
}


def agreement(*, n: int = 100, seed: int = 0) -> Task:
    """Makes the sentences.

    Args:
        n: the number of sentences of each structure, even: half have a singular subject. None is there twice.
        seed: the seed of the words.

    Returns:
        The Task, whose labels are the structures, with the attributes "patch", the sentence with the subject in
        the other number, "answer" and "patch_answer", the verbs that agree with either, and "number".

    Raises:
        ValueError: for an odd number, fewer than two sentences, and more than the simple structure has.
    """
    most = 2 * len(NOUNS) * len(VERBS)
    if not 2 <= n <= most or n % 2:
        raise ValueError(
            f"{n=} must be even and in 2..{most}, the simple sentences that there are."
        )
    random, rows = np.random.default_rng(seed), {}
    for structure in STRUCTURES:
        for i in range(n):
            while (row := (structure, *_pair(random, STRUCTURES[structure], i % 2))) in rows:
                pass
            rows[row] = NUMBERS[i % 2]
    label_S, text, patch_S, answer_S, other_S = map(np.array, zip(*rows, strict=True))
    own = {"patch": patch_S, "answer": answer_S, "patch_answer": other_S}
    return Task(
        tuple(text.tolist()), label_S, attributes={**own, "number": np.array([*rows.values()])}
    )


def _pair(random: np.random.Generator, structure: str, plural: int) -> tuple[str, str, str, str]:
    """(a sentence, its patch, the verb that agrees, the one that agrees with the patch)."""
    subject, other = (list(NOUNS.items())[i] for i in random.permutation(len(NOUNS))[:2])
    rest = list(THINGS.items()), list(SEES.items()), VERBS
    thing, sees, verb = (some[random.integers(len(some))] for some in rest)
    at = random.integers(2)
    words = {"other": other[at], "thing": thing[at], "sees": sees[at]}
    said = [structure.format(subject=subject[one], **words) for one in (plural, 1 - plural)]
    return said[0], said[1], verb[plural], verb[1 - plural]
