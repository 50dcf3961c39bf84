"""Fuzzing: a judge reads the explanation and says of windows with marks whether the marks are right.

    score = balanced accuracy over windows whose firing tokens are marked, and windows with other tokens marked

Source: delphi (code of 0.1.3); Paulo et al. 2024 (arXiv:2410.13928).
Differs: our own prompt; a reply that cannot be read is counted as failed and left out of the rates.
"""

import math

import numpy as np

from dictlearn.explanations import templates
from dictlearn.explanations.case import Case, Plan
from dictlearn.explanations.samples import Example
from dictlearn.explanations.scorers import _batches
from dictlearn.explanations.scorers._batches import Question


def fuzzing(
    case: Case,
    *,
    n: int = 5,
    share: float = 0.3,
    wrong: str = "silent",
    probabilities: bool = False,
) -> Plan:
    """The plan of fuzzing.

    Args:
        case: the latent, its explanation and its windows.
        n: the number of windows in a prompt.
        share: of a window's largest activation from which on a token is marked.
        wrong: "silent", random tokens of silent windows; "active", silent tokens of windows that fire.
        probabilities: asks for those of the answers too; adds the area under the ROC curve, `auc`.

    Returns:
        A Plan. Raises ValueError for an unknown `wrong`.
    """
    if wrong not in ("silent", "active"):
        raise ValueError(f"{wrong=} must be silent or active.")
    fires, random = case.sample.test, case.random()
    right = [Question(one.marked(one.firing(share)), True, one.quantile) for one in fires]
    n_marks = math.ceil(np.mean([len(one.firing(share)) for one in fires])) if fires else 0
    others = case.sample.silent if wrong == "silent" else fires
    false = [_wrong(one, n_marks, random) for one in others]
    questions = right + [one for one in false if one is not None]
    return _batches.plan(case, questions, templates.load("fuzzing"), n, probabilities)


def _wrong(one: Example, n: int, random: np.random.Generator) -> Question | None:
    """The window with `n` random marks on silent cells; None if it has no silent cell."""
    silent = [i for i, val in enumerate(one.vals) if val == 0]
    at = random.choice(silent, min(n, len(silent)), replace=False).tolist() if silent else []
    return Question(one.marked(at), False, one.quantile) if at else None
