"""SAEBench: seven of its eight evaluations, with its settings and its data sets of the hub.

Each cell has one draw, `splits=1`; `--seeds` gives several. The text of `core` is the packaged Wikipedia leads,
because openwebtext is too large to load: `--setting=core.text=PATH` names another.

Source: SAEBench 8042bb3.
Differs: autointerp needs a judge (`dictlearn analyse score`). The retain text of unlearning
is Wikipedia leads. Its forget text is a file that is given to those who ask (`cais/wmdp-corpora`):
`--setting=unlearning.forget_text=PATH` names it.
"""

from dictlearn.suites import _suite
from dictlearn.suites._suite import Evaluation, Suite

_DRAWS = {"n_train": 4000, "n_test": 1000, "splits": 1, "context": 128}
_BIOS = "bias_in_bios"
_SETS = ((0, 1, 2, 6, 9), (11, 13, 14, 18, 19), (20, 21, 22, 25, 26))
_CATEGORIES = (1, 2, 3, 5, 6)
_AMAZON = "amazon_reviews"
_PROFESSIONS = ((21, 13), (1, 11), (25, 22), (2, 26))
_PRODUCTS = ((24, 26), (30, 6), (18, 11), (3, 1))
"""The pairs of SCR, by the numbers of the data sets: professor and nurse, ...; books and records, ..."""


_BIOS_SETS = {f"{_BIOS}_{n}": {"task": _BIOS, "classes": own} for n, own in enumerate(_SETS, 1)}
_PROBED = {
    **_BIOS_SETS,
    _AMAZON: {"classes": _CATEGORIES},
    "amazon_sentiment": {"task": _AMAZON, "label": "rating", "classes": ("1.0", "5.0")},
    "github_code": {},
    "ag_news": {},
    "europarl": {},
}
_BIASED = {
    _BIOS: {"pairs": _PROFESSIONS, "values": ("male", "female")},
    _AMAZON: {"pairs": _PRODUCTS, "values": ("1.0", "5.0")},
}
_PERTURBED = {f"{_BIOS}_1": _BIOS_SETS[f"{_BIOS}_1"], _AMAZON: {"classes": _CATEGORIES}}
_CHAT = (
    "<start_of_turn>user\n"
    "The following are multiple choice questions (with answers) about {subject}.\n"
    "{question}\n{choices}<end_of_turn>\n<start_of_turn>model\nAnswer: ("
)
"""Gemma's chat format, the only one that SAEBench has."""
_NOBEL = {
    "entities": "nobel_prize_winner",
    "attributes": ("Country of Birth", "Field", "Gender"),
}
_ENTITIES = {"ravel_prompts": {}, "nobel_prize_winner": {"task": "ravel_prompts", **_NOBEL}}
_UNLEARNING = {
    "forget_questions": {"wmdp": {"classes": ("biology",)}},
    "other_questions": "mmlu",
    "forget_text": "bio-forget-corpus.jsonl",
    "retain_text": "wiki",
    **{"n_sequences": 1024, "context": 1024, "n_loss": 50, "prompt": _CHAT},
}
_EVALUATIONS = (
    Evaluation(
        "core",
        {"n_tokens": 4_096_000, "n_sequences": 3200, "context": 128, "latents": True},
        "held-out text of the run, or leads of English Wikipedia; not openwebtext",
        _suite.CORE,
    ),
    Evaluation(
        "sparse_probing",
        {"tasks": _PROBED, **_DRAWS},
        "bias_in_bios (three sets), Amazon categories and ratings, GitHub code, AG News, Europarl",
        _suite.PROBING,
    ),
    Evaluation(
        "scr", {"tasks": _BIASED, **_DRAWS}, "bias_in_bios and Amazon, four pairs each", _suite.SCR
    ),
    Evaluation(
        "tpp",
        {"tasks": _PERTURBED, **_DRAWS},
        "bias_in_bios (first set), Amazon categories",
        _suite.TPP,
    ),
    Evaluation(
        "absorption",
        {"n_words": 0, "min_words": 20, "splits": 1},
        "all words of the model's vocabulary",
        _suite.ABSORPTION,
    ),
    Evaluation(
        "ravel",
        {"tasks": _ENTITIES, "n_pairs": 5000},
        "RAVEL: cities and winners of the Nobel prize, three attributes each",
        _suite.RAVEL,
    ),
    Evaluation(
        "unlearning",
        _UNLEARNING,
        "WMDP biology and MMLU (four subjects); WMDP's forget text, leads of English Wikipedia",
        _suite.UNLEARNING,
    ),
)


def saebench() -> Suite:
    """The suite.

    Returns:
        A Suite.
    """
    return Suite("SAEBench's settings and data sets.", _EVALUATIONS)
