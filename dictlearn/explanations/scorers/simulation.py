"""Simulation: a model predicts the strength of the latent on every token from the explanation.

    score = Pearson's r between predicted and real activations, over the tokens of all windows

It is not defined where the predictions or the activations are constant: NaN, never 0.

Source: Bills et al. 2023, "Language models can explain neurons in language models"; delphi (code of 0.1.3).
Differs: our own prompt; the strengths are a JSON list, so that any chat model can be asked.
"""

import json
import math
from collections.abc import Sequence

import numpy as np

from dictlearn.explanations import templates
from dictlearn.explanations.case import Case, Plan, Score
from dictlearn.explanations.client import CHAT, Reply, Request
from dictlearn.explanations.rates import ratio
from dictlearn.explanations.samples import SILENT, Example

_TOKENS_OF_A_STRENGTH = 4
_LARGEST = 10


def simulation(case: Case, *, n: int = 20) -> Plan:
    """The plan of simulation.

    Args:
        case: the latent, its explanation and its windows.
        n: the number of windows, at most, half of them silent.

    Returns:
        A Plan.
    """
    prompt, random = templates.load("simulation"), case.random()
    some = lambda windows: random.permutation(len(windows))[: n // 2].tolist()
    windows = [group[i] for group in (case.sample.test, case.sample.silent) for i in some(group)]

    def request(one: Example) -> Request:
        tokens = json.dumps(one.cells, ensure_ascii=False)
        words = {"explanation": case.explanation, "tokens": tokens, "n": str(len(one.cells))}
        most = _TOKENS_OF_A_STRENGTH * len(one.cells) + 8
        return Request(CHAT, prompt.fill(**words), max_tokens=most, seed=case.seed)

    def result(replies: Sequence[Reply]) -> Score:
        said = [parsed(r.text, len(one.cells)) for r, one in zip(replies, windows, strict=True)]
        known = [(one, p) for one, p in zip(windows, said, strict=True) if p is not None]
        r = _together(known)
        by = {str(q): _together([k for k in known if k[0].quantile == q]) for q in _slices(known)}
        found = {"r": r, "by_quantile": by, "n": len(said), "n_failed": len(said) - len(known)}
        return Score(r, {**found, "coverage": ratio(len(known), len(said))})

    return Plan([request(one) for one in windows], result, prompt.label)


def parsed(text: str, n: int) -> list[float] | None:
    """The strengths of a reply: its first list, if it holds `n` numbers from 0 to 10.

    Example:
        >>> parsed("[0, 7.5]", 2), parsed("[0, 11]", 2), parsed("[0]", 2)
        ([0.0, 7.5], None, None)
    """
    start, stop = text.find("["), text.find("]")
    try:
        found = json.loads(text[start : stop + 1])
    except ValueError:
        return None
    if not isinstance(found, list) or len(found) != n:
        return None
    numbers = [one for one in found if isinstance(one, int | float) and 0 <= one <= _LARGEST]
    return [float(one) for one in numbers] if len(numbers) == n else None


def _slices(known: Sequence[tuple[Example, list[float]]]) -> list[int]:
    return sorted({one.quantile for one, _ in known} - {SILENT})


def _together(known: Sequence[tuple[Example, list[float]]]) -> float:
    """Pearson's r over the tokens of these windows."""
    real = [val for one, _ in known for val in one.vals]
    return pearson(real, [strength for _, said in known for strength in said])


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's r; NaN where either side is constant.

    Example:
        >>> round(pearson([0, 1, 5], [2, 5, 17]), 6), pearson([0, 1], [3, 3])
        (1.0, nan)
    """
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
