"""Embedding: whether a window in which the latent fires is nearer to the explanation than a silent one.

    score = the probability that the cosine of a window that fires is larger than that of a silent one (AUC)

The explanation is embedded as a query with an instruction, and windows as they are.

Source: delphi (code of 0.1.3), its embedding scorer.
Differs: our own instruction.
"""

from collections.abc import Sequence

import numpy as np

from dictlearn.explanations.case import Case, Plan, Score
from dictlearn.explanations.client import EMBED, Reply, Request
from dictlearn.explanations.rates import auc

QUERY = "Instruct: find the texts that contain what is described.\nQuery: {}"


def embedding(case: Case, *, query: str = QUERY) -> Plan:
    """The plan of embedding.

    Args:
        case: the latent, its explanation and its windows.
        query: the text that is embedded for the explanation, which stands at {}.

    Returns:
        A Plan with one request.
    """
    windows = (*case.sample.test, *case.sample.silent)
    texts = (query.replace("{}", case.explanation), *(one.text for one in windows))

    def result(replies: Sequence[Reply]) -> Score:
        vectors = np.array(replies[0].vectors, float)
        size = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = np.divide(vectors, size, out=np.full_like(vectors, np.nan), where=size > 0)
        cosine = unit[1:] @ unit[0]
        fires = [one.fires for one in windows]
        value = auc(fires, cosine.tolist())
        return Score(value, {"auc": value, "n": len(fires), "n_failed": 0})

    return Plan([Request(EMBED, texts=texts)], result)
