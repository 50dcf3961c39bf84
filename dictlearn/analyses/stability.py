"""Stability over seeds: how well the latents of two seeds match one to one, for each setting.

    pw_mcc        mean cosine of the atoms under the best one-to-one assignment
    mmcs          mean of the largest cosines, averaged over both directions
    shared        share of latents whose matched atom has cosine >= SHARED
    shared_both   share of latents for which the assignments by atoms and by encoder rows agree, and the mean of
                  the two cosines is >= SHARED

Only latents that fire on the sample count. Random atoms have positive values too: `by_chance` is their MMCS.

Source: Fel et al. 2025 (arXiv:2502.12892), stability; Paulo & Belrose 2025 (arXiv:2501.16615), `shared_both`,
UNSURE their threshold.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._settings import by_setting
from dictlearn.analyses._subject import Subject, dense_codes, exactly
from dictlearn.ops import cosine
from dictlearn.runs.atoms import atoms, encoder_rows
from dictlearn.runs.trained import Trained

NEEDS = ("seeds",)
SHARED = 0.7


def stability(subjects: Sequence[Subject], *, n_tokens: int = 4096) -> Result:
    """The mean over pairs of seeds of the measures of matched latents.

    Args:
        subjects: one evaluated run with at least two seeds in its sweep.
        n_tokens: the largest number of tokens that decide which latents fire.

    Returns:
        A Result with `settings`, a row for each.

    Raises:
        ValueError: for a setting with one seed.
    """
    (subject,) = exactly(1, subjects, "stability")
    x_BD = subject.sample(n_tokens)
    alive = {one.name: _alive(one, x_BD) for one in subject.trained}
    rows = []
    for setting, names in by_setting(subject).items():
        if len(names) < 2:
            raise ValueError(
                f"{setting.label} {setting.words} has one seed; stability compares two or more, so set "
                "sweep.seed."
            )
        pairs = [_pair(alive[a], alive[b]) for a, b in itertools.combinations(sorted(names), 2)]
        means = {key: float(np.mean([pair[key] for pair in pairs])) for key in pairs[0]}
        l0 = np.mean([subject.metrics[name]["l0"] for name in names])
        rows.append({"member": setting.label, "setting": setting.words, "l0": l0, **means})
    columns = [key.replace("_", " ") for key in rows[0]]
    table = Table("Latents of two seeds, matched", columns, [[*row.values()] for row in rows])
    return Result({"settings": rows}, [table])


def _alive(one: Trained, x_BD: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """(atoms, encoder rows or None) of the latents that fire."""
    fires_F = (dense_codes(one, x_BD) != 0).any(0)
    read_FD = encoder_rows(one)
    return atoms(one)[fires_F], None if read_FD is None else read_FD[fires_F]


def _pair(a, b) -> dict[str, float]:
    """The measures of two seeds; shares are of the latents of the smaller side."""
    found = cosine.one_to_one(a[0], b[0])
    n = min(len(a[0]), len(b[0]))
    nearest = [cosine.nearest(*pair)[0].mean() for pair in ((a[0], b[0]), (b[0], a[0]))]
    by_chance = cosine.by_chance(max(len(a[0]), len(b[0])), a[0].shape[1])
    return {
        "pw_mcc": float(found.cosine_P.mean()),
        "mmcs": float(np.mean(nearest)),
        "by_chance": by_chance,
        "shared": float((found.cosine_P >= SHARED).sum() / n),
        "shared_both": _both(found, a[1], b[1]) / n,
        "exact": float(found.exact),
    }


def _both(by_atoms: cosine.Pairs, read_a, read_b) -> float:
    """The number of latents on whose match atoms and encoder rows agree; NaN without encoder rows."""
    if read_a is None or read_b is None:
        return float("nan")
    by_rows = cosine.one_to_one(read_a, read_b)
    other = dict(
        zip(by_rows.a_P.tolist(), zip(by_rows.b_P, by_rows.cosine_P, strict=True), strict=True)
    )
    matched = zip(by_atoms.a_P.tolist(), by_atoms.b_P, by_atoms.cosine_P, strict=True)
    agreed = [(value, other[i]) for i, j, value in matched if i in other and other[i][0] == j]
    return float(sum((value + own) / 2 >= SHARED for value, (_, own) in agreed))
