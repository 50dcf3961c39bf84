"""Consistency over seeds: the share of a run's latents that every other seed has too, for each setting.

Source: Chen et al. 2025 (arXiv:2506.14002); the numerics and what is UNSURE are in `ops/recovery.py`.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from dictlearn.analyses import _draw
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._settings import by_setting
from dictlearn.analyses._subject import Subject, dense_codes, exactly
from dictlearn.ops import recovery

NEEDS = ("seeds",)


def consistency(
    subjects: Sequence[Subject],
    *,
    cosine: float = 0.9,
    shares: Sequence[float] = (1.0, 0.25),
    n_tokens: int = 4096,
) -> Result:
    """The share of latents that all seeds of a setting have, among the most active latents that fire.

    Args:
        subjects: one evaluated run with at least two seeds in its sweep.
        cosine: the cosine from which two atoms are the same.
        shares: the shares of the latents that fire to count, the most active ones by their largest activation.
        n_tokens: the largest number of tokens on which activity is measured.

    Returns:
        A Result with `settings`, a row for each.

    Raises:
        ValueError: for a setting with one seed.
    """
    (subject,) = exactly(1, subjects, "consistency")
    x_BD = subject.sample(n_tokens)
    trained = {one.name: one for one in subject.trained}
    largest = {name: dense_codes(one, x_BD).max(0) for name, one in trained.items()}
    rows = []
    for setting, names in by_setting(subject).items():
        atoms = [trained[name].variables["params"]["W_dec_FD"] for name in names]
        found = {
            f"top_{share}": recovery.consistency(
                atoms, [recovery.most_active(largest[name], share) for name in names], cosine
            )
            for share in shares
        }
        l0 = np.mean([subject.metrics[name]["l0"] for name in names])
        rows.append({"member": setting.label, "setting": setting.words, "l0": l0, **found})
    columns = ("member", "setting", "L0", *(f"of the top {share:.0%}" for share in shares))
    table = Table("Found by all seeds", columns, [[*row.values()] for row in rows])
    return Result({"settings": rows}, [table], [_figure(rows, shares)])


def _figure(rows: Sequence[dict], shares: Sequence[float]) -> Figure:
    members = list(dict.fromkeys(row["member"] for row in rows))
    figure, panels = _draw.panels(len(shares))
    for share, axes in zip(shares, panels, strict=True):
        for i, member in enumerate(members):
            points = [(row["l0"], row[f"top_{share}"]) for row in rows if row["member"] == member]
            _draw.curve(axes, sorted(points), i, len(members), member)
        title = f"found by all seeds, of the {share:.0%} most active"
        _draw.finish(axes, title, "L0, active latents per token")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure
