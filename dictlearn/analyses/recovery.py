"""Recovery of planted atoms for each setting: the share matched by an atom at a given cosine, averaged over
seeds.

The numerics are in `ops/recovery.py`; the planted atoms are the stream's `truth`.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from dictlearn.analyses import _draw
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._settings import by_setting
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.ops import recovery as numerics

NEEDS = ("truth",)


def recovery(subjects: Sequence[Subject], *, at: Sequence[float] = (0.8, 0.9)) -> Result:
    """The share of the planted atoms that each setting of a run recovers.

    Args:
        subjects: one evaluated run on planted data.
        at: the cosines from which an atom is recovered.

    Returns:
        A Result with `settings`, a row for each.

    Raises:
        ValueError: for a stream without planted atoms.
    """
    (subject,) = exactly(1, subjects, "recovery")
    truth = subject.stream.truth
    if truth is None:
        raise ValueError(
            f"{subject.name} was not trained on planted data; its stream has no truth."
        )
    atoms = {one.name: one.variables["params"]["W_dec_FD"] for one in subject.trained}
    rows = []
    for setting, names in by_setting(subject).items():
        found = {
            f"recovery_{tau}": np.mean([numerics.recovery(truth, atoms[n], tau) for n in names])
            for tau in at
        }
        l0 = np.mean([subject.metrics[name]["l0"] for name in names])
        one = {"member": setting.label, "setting": setting.words, "seeds": len(names)}
        rows.append({**one, **found, "l0": l0, "varied": dict(setting.values)})
    columns = [key for key in rows[0] if key != "varied"]
    table = Table("Planted atoms found", columns, [[row[key] for key in columns] for row in rows])
    return Result({"settings": rows}, [table], [_figure(rows, at)])


def _figure(rows: Sequence[dict], at: Sequence[float]) -> Figure:
    """A panel for each member: recovery against the first hyperparameter that its sweep varies."""
    members = list(dict.fromkeys(row["member"] for row in rows))
    figure, panels = _draw.panels(len(members), width=2.8)
    for member, axes in zip(members, panels, strict=True):
        mine = [row for row in rows if row["member"] == member]
        varied = next(iter(mine[0]["varied"]), "")
        x = [row["varied"].get(varied, i) for i, row in enumerate(mine)]
        for i, tau in enumerate(at):
            points = [(at_x, row[f"recovery_{tau}"]) for at_x, row in zip(x, mine, strict=True)]
            _draw.curve(axes, points, i, len(at), f"cosine {tau}")
        axes.set_ylim(-0.02, 1.02)
        _draw.finish(axes, member, varied.rpartition(".")[2], log2=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure
