"""Feature splitting: what the latents of a wider dictionary are to those of a narrower one.

    child of i    a wider latent j whose nearest narrower atom is a_i, with cosine >= tau
    lost, kept, split      shares of narrower latents with no child, one child, and two or more
    new           share of wider latents that are the child of none
    mmcs_up       mean_i max_j cos(a_i, b_j)                       mmcs_down    mean_j max_i cos(b_j, a_i)
    within        share of a child's tokens on which its parent fires, the mean over children
    covered       share of a split latent's tokens on which a child of it fires, the mean over split latents
    overlap       Jaccard index of the tokens of two children of one latent, the mean over latents

Only latents that fire on the sample count. `within_by_chance` has every child with the parent of another one,
and the MMCS has its value for random atoms. Dictionaries of one width and two seeds are compared too: what is
new there is not the width's.

Source: Bricken et al. 2023, "Towards monosemanticity", feature splitting; Leask et al. 2025
(arXiv:2502.04878), "Sparse autoencoders do not find canonical units of analysis", new and split latents by the
cosine 0.7.

Differs: Leask et al. call a latent new if the model's loss falls when it is added; here only the cosine counts.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from dictlearn.analyses import _draw
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._settings import by_setting
from dictlearn.analyses._subject import Subject, dense_codes, exactly
from dictlearn.ops.cosine import by_chance, nearest
from dictlearn.runs.atoms import atoms
from dictlearn.runs.trained import Trained

NEEDS = ("dictionaries",)
SHOWN = ("lost", "kept", "split", "new", "mmcs_down", "within", "covered", "overlap")
FATES = {"lost": "#d95f02", "kept": "#4ac16d", "split": "#46327e"}


class Side(NamedTuple):
    """The atoms of the latents that fire, and the tokens on which each fires."""

    atoms_FD: np.ndarray
    fires_BF: np.ndarray


def splitting(subjects: Sequence[Subject], *, tau: float = 0.7, n_tokens: int = 8192) -> Result:
    """Every dictionary of a run beside every one that is as wide or wider.

    Args:
        subjects: one evaluated run with two dictionaries or more, such as a sweep of `n_latents` and `seed`.
        tau: the cosine from which an atom is a child.
        n_tokens: the largest number of tokens on which firing is measured.

    Returns:
        A Result with `pairs`, a row for each pair of settings: means over the pairs of their seeds, with the
        least and the largest value.

    Raises:
        ValueError: for a cosine out of bounds, and for one dictionary alone.
    """
    (subject,) = exactly(1, subjects, "splitting")
    if not 0 < tau <= 1:
        raise ValueError(f"{tau=} must be above 0 and at most 1, a cosine of atoms that are alike.")
    x_BD = subject.sample(n_tokens)
    sides = {one.name: _side(one, x_BD) for one in subject.trained}
    width = {one.name: one.module.n_latents for one in subject.trained}
    rows = []
    for (a, of_a), (b, of_b) in itertools.product(by_setting(subject).items(), repeat=2):
        pairs = [(i, j) for i in of_a for j in of_b if i != j and width[i] <= width[j]]
        found = [family(sides[i], sides[j], tau) for i, j in pairs]
        if found:
            named = {"from": width[pairs[0][0]], "to": width[pairs[0][1]]}
            named |= {"narrower": f"{a.label} {a.words}", "wider": f"{b.label} {b.words}"}
            rows.append(named | _over(found))
    if not rows:
        raise ValueError(f"{subject.name} has one dictionary; splitting compares two or more.")
    rows.sort(key=lambda row: (row["from"], row["to"], row["narrower"], row["wider"]))
    return Result({"tau": tau, "pairs": rows}, [_table(rows)], [_figure(rows)])


def _side(one: Trained, x_BD: np.ndarray) -> Side:
    fires_BF = dense_codes(one, x_BD) != 0
    alive_F = fires_BF.any(0)
    return Side(atoms(one)[alive_F], fires_BF[:, alive_F])


def family(narrow: Side, wide: Side, tau: float) -> dict[str, float]:
    """The measures of one pair of dictionaries; NaN where there is no child, or no split latent.

    Args:
        narrow, wide: the two dictionaries.
        tau: the cosine from which an atom is a child.

    Returns:
        {measure: value}.
    """
    cosine_G, parent_G = map(np.asarray, nearest(wide.atoms_FD, narrow.atoms_FD))
    child_C = np.flatnonzero(cosine_G >= tau)
    parent_C = parent_G[child_C]
    n_F = np.bincount(parent_C, minlength=len(narrow.atoms_FD))
    (f, dim), g = narrow.atoms_FD.shape, len(wide.atoms_FD)
    turned_C = np.random.default_rng(0).permutation(parent_C)
    return {
        "lost": float((n_F == 0).mean()),
        "kept": float((n_F == 1).mean()),
        "split": float((n_F > 1).mean()),
        "new": 1 - len(child_C) / g,
        "mmcs_up": float(np.mean(nearest(narrow.atoms_FD, wide.atoms_FD)[0])),
        "mmcs_up_by_chance": by_chance(g, dim),
        "mmcs_down": float(cosine_G.mean()),
        "mmcs_down_by_chance": by_chance(f, dim),
        "within": _within(narrow, wide, child_C, parent_C),
        "within_by_chance": _within(narrow, wide, child_C, turned_C),
        **_shared(narrow, wide, child_C, parent_C, np.flatnonzero(n_F > 1)),
    }


def _within(narrow: Side, wide: Side, child_C, parent_C) -> float:
    own_BC = wide.fires_BF[:, child_C]
    both_C = (own_BC & narrow.fires_BF[:, parent_C]).sum(0)
    return float((both_C / own_BC.sum(0)).mean()) if len(child_C) else float("nan")


def _shared(narrow: Side, wide: Side, child_C, parent_C, split_S) -> dict[str, float]:
    """{"covered", "overlap"} of the latents that split."""
    covered, overlap = [], []
    for parent in split_S:
        own_BC = wide.fires_BF[:, child_C[parent_C == parent]]
        covered.append(own_BC[narrow.fires_BF[:, parent]].any(1).mean())
        n_CC = own_BC.T.astype(np.float32) @ own_BC
        either_CC = np.diag(n_CC) + np.diag(n_CC)[:, None] - n_CC
        overlap.append((n_CC / either_CC)[~np.eye(len(n_CC), dtype=bool)].mean())
    mean = lambda values: float(np.mean(values)) if len(values) else float("nan")
    return {"covered": mean(covered), "overlap": mean(overlap)}


def _over(found: Sequence[dict[str, float]]) -> dict[str, Any]:
    """The means over pairs of seeds, and {measure: (least, largest)} of them as `ranges`."""
    of = {key: np.array([each[key] for each in found]) for key in found[0]}
    ranges = {key: (value.min(), value.max()) for key, value in of.items()}
    return {**{key: value.mean() for key, value in of.items()}, "ranges": ranges}


def _table(rows: Sequence[dict]) -> Table:
    heads = ("narrower", "wider", *(key.replace("_", " ") for key in SHOWN))
    shown = [[row["narrower"], row["wider"], *(row[key] for key in SHOWN)] for row in rows]
    return Table("Latents of narrower dictionaries in wider ones", heads, shown)


def _figure(rows: Sequence[dict]) -> Figure:
    """What becomes of narrower latents, and how many of the wider ones are new, of every pair."""
    figure, (fates, new) = _draw.panels(2)
    names, left = [f"{row['narrower']} in {row['wider']}" for row in rows], np.zeros(len(rows))
    for fate, colour in FATES.items():
        share = np.array([row[fate] for row in rows])
        fates.barh(range(len(rows)), share, left=left, color=colour, label=fate)
        left = left + share
    new.barh(range(len(rows)), [row["new"] for row in rows], color="#365c8d")
    for axes, title in ((fates, "of the narrower latents"), (new, "new, of the wider latents")):
        axes.set_yticks(range(len(rows)), names, fontsize=6)
        _draw.finish(axes, title, "share", log2=False)
    fates.legend(fontsize=8)
    return figure
