"""Which latents a classifier of documents uses, and which of them a judge calls spurious (`shift`)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dictlearn.analyses import scr
from dictlearn.analyses._ablated import Basis
from dictlearn.analyses._shift import Latents, Texts
from dictlearn.ops.sparse_probes.logistic import Probe
from dictlearn.tasks import Question


class Listed(NamedTuple):
    """A latent with a large effect on the classifier, a share of its mean absolute logit. between_classes,
    between_values: how much higher its mean is on one side of balanced documents. spurious: by the judge."""

    tap: str
    latent: int
    effect: float
    between_classes: float
    between_values: float
    spurious: bool


class How(NamedTuple):
    """How latents are listed and judged. judged: latents to take out; None for the labels."""

    threshold: float
    most: int
    n_effects: int
    seed: int
    judged: Latents | None


def effects(texts: Texts, asked: Question, probe: Probe, how: How) -> dict[str, np.ndarray]:
    """The effects on a probe, over train documents of both of its classes."""
    positive_S = asked.positive(asked.train_S)
    half = max(1, how.n_effects // 2)
    some = np.concatenate([np.flatnonzero(side)[:half] for side in (positive_S, ~positive_S)])
    return texts.effects(asked.train_S[some], positive_S[some], probe)


def strongest(found: Mapping[str, np.ndarray], n: int) -> dict[str, list[int]]:
    """The n latents of largest effect."""
    best = sorted(_pairs(found), key=lambda pair: -abs(found[pair[0]][pair[1]]))[:n]
    return {tap: [i for at, i in best if at == tap] for tap in found}


def _pairs(effects: Mapping[str, np.ndarray]) -> list[tuple[str, int]]:
    return [(tap, i) for tap, own in effects.items() for i in np.flatnonzero(own).tolist()]


def listed(
    texts: Texts,
    codes: Mapping[str, np.ndarray],
    biased: Question,
    one: scr.Bias,
    how: How,
    size: float,
) -> list[Listed]:
    """The latents whose effect on the biased probe is large, the largest first. codes: the mean codes of all
    documents. size: the mean absolute logit."""
    found = effects(texts, biased, one.probe, how)
    shares = {tap: effect_F / size for tap, effect_F in found.items()}
    apart = {
        tap: [Basis(code_SF, np.empty((0, 0))).apart(concept) for concept in one.concepts]
        for tap, code_SF in codes.items()
    }
    large = lambda pair: abs(shares[pair[0]][pair[1]])
    pairs = sorted((one for one in _pairs(shares) if large(one) > how.threshold), key=large)
    own = []
    for tap, i in pairs[::-1][: how.most]:
        classes, values = (float(own_F[i]) for own_F in apart[tap])
        spurious = abs(values) > abs(classes)
        if how.judged is not None:
            spurious = i in how.judged.get(tap, ())
        own.append(Listed(tap, i, float(shares[tap][i]), classes, values, spurious))
    return own


def removed(found: Sequence[Listed], judged: Latents | None) -> dict[str, list[int]]:
    """The latents that are taken out: all of the judge's file, or those that the labels call spurious."""
    if judged is not None:
        return {tap: sorted(own) for tap, own in judged.items()}
    out: dict[str, list[int]] = {}
    for one in found:
        if one.spurious:
            out.setdefault(one.tap, []).append(one.latent)
    return out
