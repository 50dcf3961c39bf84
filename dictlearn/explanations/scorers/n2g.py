"""N2G: whether patterns of tokens that make the latent fire predict where else it fires.

    score = (share of firing tokens predicted + share of tokens of silent windows not predicted) / 2

and `f1` of both kinds of tokens together. Patterns are made from the train windows (explanations/n2g.py);
tokens are those of the test windows and of silent ones. No client and no explanation is needed.

Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders" (arXiv:2406.04093), section 4.3.
Differs: balanced accuracy beside F1, so that a latent without patterns scores a half.
"""

from collections.abc import Sequence

import numpy as np

from dictlearn.explanations.case import Case, Plan, Score
from dictlearn.explanations.client import Reply
from dictlearn.explanations.codes import codes_of, separator_of
from dictlearn.explanations.n2g import Trie, build
from dictlearn.explanations.rates import rates
from dictlearn.explanations.samples import Example

NEEDS = {"codes": codes_of, "pad": separator_of}


def n2g(case: Case, *, n_texts: int = 16) -> Plan:
    """The plan of N2G, which has no requests.

    Args:
        case: the latent with its windows, its activations on any text, `codes`, and the token that replaces
            others in texts, `pad`.
        n_texts: the number of train windows, at most, the strongest first.

    Returns:
        A Plan.

    Raises:
        ValueError: for a case without activations on any text.
    """
    codes, pad = case.need("codes"), case.need("pad")

    def result(replies: Sequence[Reply]) -> Score:
        return scored(build(peaks(case.sample.train[:n_texts]), codes, pad), case)

    return Plan([], result)


def peaks(windows: Sequence[Example]) -> list[tuple[tuple[int, ...], int]]:
    """(tokens, the place of the largest activation) of each window."""
    return [(one.tokens, int(np.argmax(one.token_vals))) for one in windows]


def scored(trie: Trie, case: Case) -> Score:
    """The score of patterns on the test windows and the silent windows of a case."""
    truth, said = [], []
    for one in (*case.sample.test, *case.sample.silent):
        asked = _asked(one)
        predicted = trie.predict(one.tokens, one.start == 0)
        truth += [one.token_vals[i] > 0 for i in asked]
        said += [predicted[i] > 0 for i in asked]
    found = rates(truth, said)
    value = found["balanced_accuracy"]
    return Score(value, {**found, "n_failed": 0, "patterns": len(trie.patterns())})


def _asked(one: Example) -> list[int]:
    """The firing tokens of a window that fires, every token of a silent one."""
    return [i for i, val in enumerate(one.token_vals) if val > 0 or not one.fires]
