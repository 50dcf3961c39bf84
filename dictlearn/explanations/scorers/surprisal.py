"""Surprisal: how much the explanation helps a language model to predict the windows in which the latent fires.

    gain = loss(window | neutral words) - loss(window | explanation),  both summed over the window's tokens
    score = the probability that a window that fires gains more than a silent one (AUC)

Source: delphi (code of 0.1.3), its surprisal scorer.
Differs: our own words around the explanation.
"""

from collections.abc import Sequence

import numpy as np

from dictlearn.explanations import templates
from dictlearn.explanations.case import Case, Plan, Score
from dictlearn.explanations.client import TEXT, Reply, Request
from dictlearn.explanations.rates import auc, ratio

NEUTRAL = "various sentences that have nothing in common"


def surprisal(case: Case, *, neutral: str = NEUTRAL) -> Plan:
    """The plan of surprisal.

    Args:
        case: the latent, its explanation and its windows.
        neutral: what stands in the place of the explanation.

    Returns:
        A Plan.
    """
    prompt, windows = templates.load("surprisal"), (*case.sample.test, *case.sample.silent)

    def asked(words: str) -> list[Request]:
        ((_, context),) = prompt.fill(explanation=words)
        return [Request(TEXT, texts=(f"{context}\n", one.text)) for one in windows]

    def result(replies: Sequence[Reply]) -> Score:
        loss = np.array([_loss(reply) for reply in replies]).reshape(2, -1)
        gain = loss[0] - loss[1]
        fires, known = np.array([one.fires for one in windows], bool), ~np.isnan(gain)
        found = {
            "auc": auc(fires.tolist(), gain.tolist()),
            "gain": _mean(gain[fires & known]),
            "gain_silent": _mean(gain[~fires & known]),
        }
        counts = {"coverage": ratio(known.sum(), len(known)), "n": len(known)}
        return Score(found["auc"], {**found, **counts, "n_failed": int((~known).sum())})

    return Plan(asked(neutral) + asked(case.explanation), result, prompt.label)


def _loss(reply: Reply) -> float:
    """The sum over the tokens; NaN for a reply without them."""
    return -sum(p for _, p, _ in reply.tokens) if reply.tokens else np.nan


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
