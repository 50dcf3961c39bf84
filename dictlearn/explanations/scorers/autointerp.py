"""SAEBench's score: a judge reads the explanation and 14 windows in random order, and lists those that fit.

    score = the share of the windows that are labelled as SAEBench labels them: the random ones are silent

A judge that answers "None" gets 10/14, so the balanced accuracy is given too, with these labels and with the
true ones. The windows are those of the protocol (explanations/autointerp.py).

Source: SAEBench (code 8042bb3); Karvonen et al. 2025 (arXiv:2503.09532).
Differs: our own prompt.
"""

import re
from collections.abc import Sequence

from dictlearn.explanations import templates
from dictlearn.explanations.autointerp import RANDOM
from dictlearn.explanations.case import Case, Plan, Score
from dictlearn.explanations.client import CHAT, Reply, Request
from dictlearn.explanations.rates import rates


def autointerp(case: Case, *, n_random: int = RANDOM) -> Plan:
    """The plan of SAEBench's score, one request.

    Args:
        case: the latent, its explanation and its windows.
        n_random: the number of silent windows, at most.

    Returns:
        A Plan.
    """
    prompt, random = templates.load("autointerp"), case.random()
    windows = [*case.sample.test, *case.sample.silent[:n_random]]
    shown = [windows[i] for i in random.permutation(len(windows)).tolist()]
    n, fires = len(shown), [one.fires for one in shown]
    listed = "\n".join(f"{i}. {one.text}" for i, one in enumerate(shown, 1))
    some = sorted(random.choice(n, min(n, len(case.sample.test)), replace=False).tolist())
    sample = ", ".join(str(i + 1) for i in some)
    words = {"n": str(n), "reply": sample, "explanation": case.explanation, "texts": listed}
    request = Request(CHAT, prompt.fill(**words), max_tokens=2 * n + 5, seed=case.seed)

    def result(replies: Sequence[Reply]) -> Score:
        said = parsed(replies[0].text, n) if replies else None
        answers = [None if said is None else i in said for i in range(1, n + 1)]
        found = rates(fires, answers)
        true = rates([max(one.vals) > 0 for one in shown], answers)["balanced_accuracy"]
        failed = {"n_failed": n if said is None else 0, "balanced_accuracy_true": true}
        return Score(found["accuracy"], {**found, **failed})

    return Plan([request] if n else [], result, prompt.label)


def parsed(text: str, n: int) -> list[int] | None:
    """The numbers of a reply from 1 to n, none for "None"; None for other words.

    Example:
        >>> parsed("1, 2 and 14.", 14), parsed("None", 14), parsed("3, x", 14)
        ([1, 2, 14], [], None)
    """
    said = text.strip().rstrip(".")
    if said.lower() == "none":
        return []
    words = [word for word in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", said) if word]
    numbers = [int(word) for word in words if word.isdecimal()]
    fits = numbers and len(numbers) == len(words) and all(1 <= one <= n for one in numbers)
    return numbers if fits else None
