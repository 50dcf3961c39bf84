"""Whether planted atoms are among a dictionary's: the feature recovery rate of Chen et al. 2025.

    recovery at tau = share of true atoms v with max_m cos(w_m, v) >= tau

It reads weights alone, so its fold over the batches is that of nothing. Source: ops/recovery.py.
"""

from collections.abc import Sequence

from dictlearn.meters import Column, Subject
from dictlearn.ops import recovery as numerics
from dictlearn.types import Meter

NEEDS = "truth"
AT = (0.8, 0.9, 0.95)
"""Cosines at which a planted atom counts as found."""
COLUMNS = tuple(
    Column(f"recovery_{tau}", f"found {tau}", f"planted atoms found at cosine {tau}", ".1%", 1)
    for tau in AT
)


def recovery(subject: Subject, *, at: Sequence[float] = AT) -> Meter:
    """The meter; it gives nothing for a dictionary without atoms. at: cosines at which an atom is found."""

    def result(totals) -> dict[str, float]:
        if subject.atoms_FD is None or subject.truth_ND is None:
            return {}
        found = lambda tau: numerics.recovery(subject.truth_ND, subject.atoms_FD, tau)
        return {f"recovery_{tau}": found(tau) for tau in at}

    return Meter(lambda reading: {}, dict, lambda totals, sums: totals, result)
