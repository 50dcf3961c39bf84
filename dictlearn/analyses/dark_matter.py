"""Dark matter: how much of a dictionary's error is linear in the activations, and what the rest costs.

    error      e = y - yhat               linear part     ê = x A, with A = argmin |e - x A|^2, no intercept
    FVU = sum |e|^2 / sum |y - mean y|^2                  nonlinear part  e - ê
    FVU_nonlinear = sum |e - ê|^2 / sum |y - mean y|^2    FVU_linear = FVU - FVU_nonlinear

Maps are fitted on every other block of tokens and measured on the rest. `error_r2` is the share of the error
that A explains, the mean over dimensions; `norm_r2` the share of |e|^2 that an affine function of x explains.

Also measured are the model's loss with either part of the error returned to the reconstruction; how well the
error norms of one dictionary give those of another, token by token; the same dictionaries with a pursuit as
their encoder; and how much of the nonlinear part is linear in activations at other taps.

Source: Engels et al. 2024, "Decomposing the dark matter of sparse autoencoders" (arXiv:2410.14670), whose
gradient pursuit is `pursuits=("gradient",)`.

Differs: the paper's earlier layers are represented by reconstructions, here by activations. Its least squares
cut singular values at 1e-9; here they have a ridge.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dictlearn.analyses import _draw
from dictlearn.analyses._blocks import blocks
from dictlearn.analyses._dark import FORMS, Loss, fitted, measured
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject
from dictlearn.runs.pursuit_encoder import with_pursuit_encoder
from dictlearn.runs.trained import Trained


def dark_matter(
    subjects: Sequence[Subject],
    *,
    n_tokens: int = 32_768,
    skip: int = 0,
    n_sequences: int = 8,
    pursuits: Sequence[str] = (),
    pursuit_k: int = 64,
    earlier: Sequence[str] = (),
    ridge: float = 1e-9,
) -> Result:
    """The parts of the error of every dictionary.

    Args:
        subjects: runs on one stream.
        n_tokens: the largest number of tokens; half of them fit the maps.
        skip: the number of tokens at the beginning of each sequence that do not count.
        n_sequences: the number of sequences on which the model's loss is measured, in whole passes; 0 for
            none.
        pursuits: every dictionary is also measured with each of these as its encoder
            (pursuit_encoder.METHODS), each token at its own L0.
        pursuit_k: the largest L0 of a pursuit.
        earlier: patterns of taps from whose activations the nonlinear part is predicted.
        ridge: the penalty of the maps, as a share of the mean square of an input.

    Returns:
        A Result with `rows`, one for each dictionary, and `norms`, one for each pair of dictionaries.

    Raises:
        ValueError: for runs of different data, too few tokens for the maps, and a ridge that is not positive.
    """
    _check(subjects, ridge)
    rows = blocks(subjects[0], n_tokens, skip, earlier)
    chosen = _chosen(subjects, pursuits, pursuit_k)
    errors = fitted(rows, chosen, ridge)
    spoken = rows.written and n_sequences > 0
    loss = Loss(subjects[0].lm, rows.written, n_sequences) if spoken else None
    moments = measured(rows, errors, loss)
    found = [
        error.values() | {"loss": loss.values(error.one.name) if loss else {}} for error in errors
    ]
    pairs = _pairs(found, moments)
    return Result({"rows": found, "norms": pairs}, _tables(found, pairs), [_figure(found)])


def _check(subjects: Sequence[Subject], ridge: float) -> None:
    if not ridge > 0:
        raise ValueError(f"{ridge=} must be positive; 1e-9 changes nothing that can be measured.")
    for other in subjects[1:]:
        if other.stream.fingerprint != subjects[0].stream.fingerprint:
            raise ValueError(
                f"{other.name} was trained on other data than {subjects[0].name}; errors are compared on the "
                "same tokens, so give runs of one stream."
            )


def _chosen(subjects: Sequence[Subject], pursuits: Sequence[str], k: int) -> list[Trained]:
    """The dictionaries by name, each followed by its copies with pursuits."""
    found = []
    for subject in subjects:
        prefix = f"{subject.name} " if len(subjects) > 1 else ""
        for one in subject.trained:
            named = dataclasses.replace(one, name=prefix + one.name)
            own_k = min(k, one.module.n_latents)
            found.append(named)
            for how in pursuits:
                under = with_pursuit_encoder(named, how, own_k)
                found.append(dataclasses.replace(under, name=f"{named.name}+{how}"))
    return sorted(found, key=lambda one: one.name)


def _pairs(found: Sequence[Mapping], moments: np.ndarray) -> list[dict[str, Any]]:
    """How well the error norms of one dictionary give those of another, token by token. r2: by an affine
    function of its |e|. more: the share of the rest that its |e - ê| adds."""
    n = len(found)
    about = moments[1:, 1:] - np.outer(moments[0, 1:], moments[0, 1:]) / moments[0, 0]

    def share(of: int, given: list[int]) -> float:
        map_G = np.linalg.lstsq(about[np.ix_(given, given)], about[given, of])[0]
        return float(map_G @ about[given, of] / about[of, of]) if about[of, of] > 0 else np.nan

    pairs = []
    for a in range(n):
        for b in (each for each in range(n) if each != a):
            r2, both = share(b, [a]), share(b, [a, n + a])
            names = {"of": found[b]["dictionary"], "from": found[a]["dictionary"]}
            pairs.append(names | {"r2": r2, "more": (both - r2) / (1 - r2) if r2 < 1 else np.nan})
    return pairs


def _tables(found: Sequence[Mapping], pairs: Sequence[Mapping]) -> list[Table]:
    interval = lambda row, key: f"{row[f'{key}_low']:.3f} .. {row[f'{key}_high']:.3f}"
    plain = ("n_latents", "l0", "fvu", "fvu_linear", "fvu_nonlinear")
    columns = ("dictionary", "n", "L0", "FVU", "linear", "nonlinear")
    rows = [[row["dictionary"], *(row[key] for key in plain)] for row in found]
    tables = [Table("The error and its linear part", columns, rows)]
    columns = ("dictionary", "R² of the error", "5 .. 95 %", "R² of its square", "5 .. 95 % of it")
    keys = ("error_r2", "norm_r2")
    shares = lambda row: [cell for key in keys for cell in (row[key], interval(row, key))]
    rows = [[row["dictionary"], *shares(row)] for row in found]
    tables.append(Table("The error, from the activations", columns, rows))
    columns = ("dictionary", *(form.replace("_", " ") for form in FORMS))
    rows = [
        [row["dictionary"], *(row["loss"][form]["ce_score"] for form in FORMS)]
        for row in found
        if row["loss"]
    ]
    tables.append(Table("CE score with a part of the error returned", columns, rows))
    rows = [
        [row["dictionary"], tap, one["r2"], interval(one, "r2")]
        for row in found
        for tap, one in row["earlier"].items()
    ]
    columns = ("dictionary", "tap", "R²", "5 .. 95 %")
    tables.append(Table("The nonlinear part, from another tap", columns, rows))
    first = min(found, key=lambda row: (row["n_latents"], row["dictionary"]))["dictionary"]
    rows = [[pair["of"], pair["r2"], pair["more"]] for pair in pairs if pair["from"] == first]
    columns = ("dictionary", "R²", "of the rest, by the nonlinear part")
    tables.append(Table(f"Error norms, from those of {first}", columns, rows))
    return [table for table in tables if table.rows]


def _figure(found: Sequence[Mapping]) -> Figure:
    """The parts of the error as bars, and what is predicted of it with its interval."""
    figure, (parts, shares) = _draw.panels(2)
    names, place = [row["dictionary"] for row in found], np.arange(len(found))
    of = lambda key: np.array([row[key] for row in found])
    parts.barh(place, of("fvu_nonlinear"), color="#46327e", label="nonlinear")
    parts.barh(place, of("fvu_linear"), left=of("fvu_nonlinear"), color="#4ac16d", label="linear")
    for key, colour, label in (
        ("error_r2", "#365c8d", "error"),
        ("norm_r2", "#d95f02", "its square"),
    ):
        ends = np.abs(np.stack([of(f"{key}_low"), of(f"{key}_high")]) - of(key))
        shares.errorbar(of(key), place, xerr=ends, fmt="o", ms=4, color=colour, label=label)
    for axes, title in ((parts, "share of the variance"), (shares, "R² from the activations")):
        axes.set_yticks(place, names, fontsize=7)
        _draw.finish(axes, title, "", log2=False)
        axes.legend(fontsize=8)
    return figure
