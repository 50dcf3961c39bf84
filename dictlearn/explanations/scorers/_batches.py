"""Yes-or-no questions about windows, several in a prompt, and how their answers are read."""

import json
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from dictlearn.explanations.case import Case, Plan, Score
from dictlearn.explanations.client import CHAT, Reply, Request
from dictlearn.explanations.rates import auc, rates
from dictlearn.explanations.templates import Prompt

_LIST = re.compile(r"\[[^\[\]]*\]")
_TOKENS_OF_AN_ANSWER = 4
_ALTERNATIVES = 5


class Question(NamedTuple):
    """A text, whether the right answer is yes, and the slice of its window."""

    text: str
    truth: bool
    quantile: int


def plan(
    case: Case, questions: list[Question], prompt: Prompt, n: int, probabilities: bool
) -> Plan:
    """The plan of questions in random order, `n` in a prompt. probabilities: whether the client is asked for
    those of the answers, of which the area under the ROC curve is made."""
    order = case.random().permutation(len(questions)).tolist()
    batches = [[questions[i] for i in order[at : at + n]] for at in range(0, len(order), n)]

    def request(batch: Sequence[Question]) -> Request:
        listed = "\n".join(f"Text {i}: {one.text}" for i, one in enumerate(batch))
        words = {"explanation": case.explanation, "texts": listed, "n": str(len(batch))}
        most, tops = _TOKENS_OF_AN_ANSWER * len(batch) + 8, _ALTERNATIVES * probabilities
        return Request(
            CHAT, prompt.fill(**words), max_tokens=most, alternatives=tops, seed=case.seed
        )

    def result(replies: Sequence[Reply]) -> Score:
        said, probability = [], []
        for batch, reply in zip(batches, replies, strict=True):
            said += parsed(reply.text, len(batch)) or [None] * len(batch)
            probability += _probabilities(reply, len(batch))
        asked = [one for batch in batches for one in batch]
        truth = [one.truth for one in asked]
        found = rates(truth, said, [one.quantile for one in asked])
        found["n_failed"] = sum(one is None for one in said)
        if probabilities:
            found["auc"] = auc(truth, probability)
        return Score(found["balanced_accuracy"], found)

    return Plan([request(batch) for batch in batches], result, prompt.label)


def parsed(text: str, n: int) -> list[bool] | None:
    """The answers of a reply: its first list, if it holds `n` numbers that are 0 or 1.

    Example:
        >>> parsed("[1, 0]", 2), parsed("[1, 0, 1]", 2), parsed("yes", 2)
        ([True, False], None, None)
    """
    match = _LIST.search(text)
    try:
        found = json.loads(match[0]) if match else None
    except ValueError:
        return None
    fits = isinstance(found, list) and len(found) == n and all(one in (0, 1) for one in found)
    return [bool(one) for one in found] if fits and found is not None else None


def _probabilities(reply: Reply, n: int) -> list[float]:
    """P(1) / (P(0) + P(1)) at each answer; NaN where the reply does not have them."""
    at = [{**top, token: p} for token, p, top in reply.tokens if token.strip() in ("0", "1")]
    if len(at) != n:
        return [math.nan] * n
    return [_share(top) for top in at]


def _share(top: dict[str, float]) -> float:
    one, zero = (
        sum(math.exp(p) for token, p in top.items() if token.strip() == digit) for digit in "10"
    )
    return one / (one + zero)
