"""Intervention: how much better the explanation describes the model's text after the latent was pushed.

    gain = surprisal(explanation | clean continuation) - surprisal(explanation | steered continuation)
    score = mean gain over prompts, in nats

A prompt is a test window up to the first token on which the latent fires. The latent is pushed there and on all
generated tokens, at the strength that moves the predictions by `kl`. Zero is chance: an explanation that says
nothing about what the latent does gains nothing.

Source: Paulo et al. 2024 (arXiv:2410.13928), section 4.5; delphi's older code.
Differs: our own words around the explanation; one explanation, not the best of five; the latent is pushed on
generated tokens too.
"""

from collections.abc import Sequence

import numpy as np

from dictlearn.explanations import templates
from dictlearn.explanations.case import Case, Plan, Score
from dictlearn.explanations.client import TEXT, Reply, Request
from dictlearn.explanations.rates import ratio
from dictlearn.explanations.samples import Example
from dictlearn.explanations.steered import steered_of

NEEDS = {"steered": steered_of}


def intervention(case: Case, *, n: int = 40, n_tokens: int = 8, kl: float = 0.5) -> Plan:
    """The plan of intervention.

    Args:
        case: the latent, its explanation, its windows, and its model's continuations, `steered`.
        n: the number of prompts, at most.
        n_tokens: the number of tokens of a continuation.
        kl: the mean KL of the predictions, in nats.

    Returns:
        A Plan. A latent for which no strength gives the KL has no score.

    Raises:
        ValueError: for a case without continuations.
    """
    steered = case.need("steered")
    prompt, cut = templates.load("intervention"), [started(one) for one in case.sample.test[:n]]
    pairs = steered(cut, n_tokens, kl, case.seed) if cut else []

    def asked(passage: str) -> Request:
        ((_, context),) = prompt.fill(passage=passage)
        return Request(TEXT, texts=(context, f" {case.explanation}"))

    def result(replies: Sequence[Reply]) -> Score:
        gain = np.array([_surprisal(reply) for reply in replies]).reshape(-1, 2) @ [1, -1]
        known = gain[~np.isnan(gain)]
        value = float(known.mean()) if len(known) else float("nan")
        error = float(known.std(ddof=1) / len(known) ** 0.5) if len(known) > 1 else float("nan")
        counts = {"n": len(gain), "n_failed": len(gain) - len(known)}
        coverage = ratio(len(known), len(gain))
        return Score(
            value, {"gain": value, "standard_error": error, **counts, "coverage": coverage}
        )

    return Plan([asked(text) for pair in pairs for text in pair], result, prompt.label)


def started(one: Example) -> tuple[int, ...]:
    """The tokens of a window up to the first one on which the latent fires.

    Example:
        >>> started(Example((5, 6, 7), ("a", " b", " c"), (0, 2, 1), 9, "fires", (0, 2, 1)))
        (5, 6)
    """
    return one.tokens[: int(np.argmax(np.array(one.token_vals) > 0)) + 1]


def _surprisal(reply: Reply) -> float:
    """Of the whole explanation; NaN for a reply without tokens."""
    return -sum(p for _, p, _ in reply.tokens) if reply.tokens else np.nan
