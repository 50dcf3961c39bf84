"""Intruder: a judge finds the window that does not belong among windows of one latent.

    score = the share of the questions answered right;  guessing gives 1 / n

The windows of a question are of one quantile, with marks; the intruder is a silent window with random marks.
No explanation is read, so the score says whether the latent itself has one meaning.

Source: delphi (code of 0.1.3), its intruder scorer; Chang et al. 2009, "Reading tea leaves", for topic models.
Differs: our own prompt; a reply without a valid number is counted as failed and left out.
"""

import math
import re
from collections.abc import Sequence

import numpy as np

from dictlearn.explanations import templates
from dictlearn.explanations.case import Case, Plan, Score
from dictlearn.explanations.client import CHAT, Reply, Request
from dictlearn.explanations.rates import ratio
from dictlearn.explanations.samples import Example

_NUMBER = re.compile(r"\d+")


def intruder(case: Case, *, n: int = 5, n_questions: int = 20, share: float = 0.3) -> Plan:
    """The plan of the intruder test.

    Args:
        case: the latent and its windows; its explanation is not read.
        n: the number of windows in a question, the intruder among them.
        n_questions: the number of questions, at most; each has an intruder of its own.
        share: of a window's largest activation from which on a token is marked.

    Returns:
        A Plan.
    """
    random, prompt = case.random(), templates.load("intruder")
    groups: dict[int, list[Example]] = {}
    for one in case.sample.test:
        groups.setdefault(one.quantile, []).append(one)
    fit = [q for q, members in groups.items() if len(members) >= n - 1]
    chosen = random.permutation(np.resize(fit, n_questions)).tolist() if fit else []
    quiet = case.sample.silent[:n_questions]
    asked = [
        _question(groups[q], other, n, share, random)
        for q, other in zip(chosen, quiet, strict=False)
    ]
    requests = [
        Request(CHAT, prompt.fill(texts=texts, n=str(n)), max_tokens=16, seed=case.seed)
        for texts, _ in asked
    ]

    def result(replies: Sequence[Reply]) -> Score:
        said = [_parsed(reply.text, n) for reply in replies]
        right = [answer == at for answer, (_, at) in zip(said, asked, strict=True)]
        known = sum(answer is not None for answer in said)
        accuracy = ratio(sum(right), known)
        found = {"accuracy": accuracy, "coverage": ratio(known, len(said)), "n": len(said)}
        return Score(accuracy, {**found, "n_failed": len(said) - known})

    return Plan(requests, result, prompt.label)


def _question(
    group: list[Example], other: Example, n: int, share: float, random: np.random.Generator
) -> tuple[str, int]:
    """(the texts, which of them is the intruder)."""
    at = random.choice(len(group), n - 1, replace=False).tolist()
    windows = [group[i] for i in at]
    marks = [one.firing(share) for one in windows]
    n_marks = math.ceil(np.mean([len(one) for one in marks]))
    size = min(n_marks, len(other.cells))
    false = random.choice(len(other.cells), size, replace=False).tolist()
    shown = [one.marked(at) for one, at in zip(windows, marks, strict=True)]
    place = int(random.integers(n))
    shown.insert(place, other.marked(false))
    return "\n".join(f"Text {i}: {text}" for i, text in enumerate(shown)), place


def _parsed(text: str, n: int) -> int | None:
    """The last number of a reply, if it is one of a text."""
    numbers = _NUMBER.findall(text)
    return int(numbers[-1]) if numbers and int(numbers[-1]) < n else None
