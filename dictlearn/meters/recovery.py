"""The feature recovery rate: the share of the planted atoms that the dictionary has.

    recovery at tau = share of true atoms v with max_m cos(w_m, v) >= tau

The meter reads weights only, so its fold over the batches is empty.

Source: Chen et al. 2025 (arXiv:2506.14002); see ops/recovery.py.
"""

from collections.abc import Sequence

from dictlearn.meters import Column, Subject
from dictlearn.ops import recovery as numerics
from dictlearn.types import Meter

NEEDS = "truth"
AT = (0.8, 0.9, 0.95)
"""Cosines at which a planted atom counts as recovered."""
COLUMNS = tuple(
    Column(f"recovery_{tau}", f"found {tau}", f"planted atoms found at cosine {tau}", ".1%", 1)
    for tau in AT
)


def recovery(subject: Subject, *, at: Sequence[float] = AT) -> Meter:
    """The meter; its result is empty for a dictionary without atoms. at: the cosines at which an atom counts
    as recovered."""

    def result(totals) -> dict[str, float]:
        if subject.atoms_FD is None or subject.truth_ND is None:
            return {}
        found = lambda tau: numerics.recovery(subject.truth_ND, subject.atoms_FD, tau)
        return {f"recovery_{tau}": found(tau) for tau in at}

    return Meter(lambda reading: {}, dict, lambda totals, sums: totals, result)
