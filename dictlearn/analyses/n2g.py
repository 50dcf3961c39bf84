"""N2G: the patterns of tokens that make latents fire, and how well they predict where else the latents fire.

No language model is asked; the run's own model runs on parts of the windows. Patterns become the explanation of
a latent that has none, with `*` for any token and `^` for the beginning of a text.
Source: Foote et al. 2023 (arXiv:2305.19911); Gao et al. 2024 (arXiv:2406.04093).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dictlearn.analyses import _explanations
from dictlearn.analyses._asking import Latents, latents_of, settings_of
from dictlearn.analyses._events import identity
from dictlearn.analyses._passages import readable
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.explanations import Case, Sampling, Score
from dictlearn.explanations.codes import codes_of
from dictlearn.explanations.n2g import ANY, START, build
from dictlearn.explanations.rates import ratio
from dictlearn.explanations.scorers.n2g import peaks, scored
from dictlearn.runs.owner import owned

NEEDS = ("model", "origin")
_SHOWN, _MINE = 5, {"by": "n2g"}
_RATES = ("precision", "recall", "f1", "balanced_accuracy")
_SIGNS = {ANY: " *", START: "^"}


def n2g(
    subjects: Sequence[Subject],
    *,
    dictionary: str = "",
    latents: int | Sequence[int] = (),
    n: int = 10,
    n_texts: int = 16,
    sampling: Mapping[str, Any] = {},
) -> Result:
    """Patterns of latents of one dictionary, with their precision and recall.

    Args:
        subjects: one run on a language model's activations.
        dictionary: its name; empty for the one with the largest explained variance.
        latents, n: the latents; without any, `n` random ones that fire often enough.
        n_texts: windows that patterns are made from, at most, the strongest first.
        sampling: settings of `explanations.Sampling`.

    Returns:
        A Result with the patterns and the scores of each latent.
    """
    (subject,) = exactly(1, subjects, "n2g")
    how, seen = settings_of(Sampling, sampling, "sampling"), Latents.of(subject, dictionary)
    found = {i: _one(seen, i, how, n_texts) for i in latents_of(latents) or seen.some(n, how)}
    with owned(subject.workdir / "explanations", "dictlearn analyse n2g"):
        others = _explanations.read(seen.file)
        free = {i for i in found if others.get(i, _MINE).get("by") == _MINE["by"]}
        lines = {i: _line(seen, how, *found[i]) for i in free if found[i][0]}
        _explanations.update(seen.file, lines)
    values = {str(i): {"patterns": said, **one.values} for i, (said, one) in found.items()}
    rows = [(i, _shown(said), *map(one.values.get, _RATES)) for i, (said, one) in found.items()]
    f1 = [one.values["f1"] for _, one in found.values() if one.values["f1"] == one.values["f1"]]
    table = Table(f"Patterns of {seen.dictionary.name}", ("latent", "patterns", *_RATES), rows)
    mean = ratio(sum(f1), len(f1))
    return Result({"dictionary": seen.dictionary.name, "f1": mean, "latents": values}, [table])


def _one(seen: Latents, latent: int, how: Sampling, n_texts: int) -> tuple[list[str], Score]:
    """(the patterns of a latent as text, their score)."""
    lm, sample = seen.subject.lm, seen.sample(latent, how)
    codes = codes_of(seen.in_model, latent)
    case = Case(latent, "", sample, how.seed)
    trie = build(peaks(sample.train[:n_texts]), codes, lm.separator)
    word = lambda step: _SIGNS.get(step) or readable(lm.tokenizer, step)
    said = ["".join(map(word, pattern)).strip() for pattern, _ in trie.patterns()]
    return said, scored(trie, case)


def _line(seen: Latents, how: Sampling, said: Sequence[str], one: Score) -> dict[str, Any]:
    """The line of a latent in the file of explanations."""
    drawn = {"sampling": dataclasses.asdict(how), "events": identity(seen.found)}
    return {"text": _shown(said), "score": one.value, **_MINE, **drawn}


def _shown(said: Sequence[str]) -> str:
    return "; ".join(said[:_SHOWN])
