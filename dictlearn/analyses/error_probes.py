"""Probes on the error: what a linear probe reads from the activation, and what of it is in which part.

    activation x       codes f       reconstruction yhat       error x - yhat

One multinomial logistic regression of the labels on each part (ops/softmax_probe.py). A label that the error
tells and the reconstruction does not is one that the dictionary missed. Parts are averaged over the tokens of a
text. The weight of the loss is chosen on rows of those that fit. For an array with held-out rows these
are the test, which no dictionary has seen; otherwise every other row is.

Source: Engels et al. 2024 (arXiv:2410.14670), for the error as a representation of its own; Makhzani & Frey
2013 (arXiv:1312.5663), section 4, for the classification error of k-sparse codes.

Differs: the labels of Engels et al. are not released.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dictlearn.analyses import _draw
from dictlearn.analyses._labelled import Labelled, labelled, mean
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, dense_codes, exactly
from dictlearn.ops.softmax_probe import SoftmaxProbe, none, softmax
from dictlearn.runs.trained import Trained

NEEDS = ("labels",)
PARTS = ("activation", "codes", "reconstruction", "error")
_CS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_CHOOSE, _VALIDATED = 12_000, 5
"""c is chosen on at most so many of the rows that fit, one of so many of them held out."""
_ROWS = 1024
"""Tokens that are encoded at once."""


def error_probes(
    subjects: Sequence[Subject],
    *,
    parts: Sequence[str] = PARTS,
    texts: str = "",
    n_texts: int = 1024,
    length: int = 48,
    labels: str = "",
    key: str = "class",
) -> Result:
    """The accuracy of linear probes on the parts of the activation in every dictionary of a run.

    Args:
        subjects: one run of autoencoders on an array with labels, or on a language model's activations.
        parts: the parts that are probed, of PARTS.
        texts, n_texts, length, labels, key: as in `probe_loss`.

    Returns:
        A Result with `rows`, one for the activation and one for each part of each dictionary, and `by_chance`,
        the share of the commonest label. Intervals are 95 % over test rows.

    Raises:
        ValueError: for an unknown part, a transcoder, and rows that all have one label.
    """
    (subject,) = exactly(1, subjects, "error_probes")
    _check(subject, parts)
    given = labelled(subject, texts, n_texts, length, labels, key)
    names, class_N = np.unique(given.label_N, return_inverse=True)
    test_N = given.new_N if given.new_N.any() else np.arange(len(class_N)) % 2 == 1
    if len(names) < 2:
        raise ValueError(
            f"all {len(class_N)} rows have the label {str(names[0])!r}; give two or more."
        )
    shares = np.bincount(class_N[test_N], minlength=len(names)) / test_N.sum()
    rows = [
        {"dictionary": name, "part": part} | _measured(row_ND, class_N, test_N)
        for name, part, row_ND in _parts(subject.trained, given, parts)
    ]
    found = {"rows": rows, "by_chance": float(shares.max()), "tests": int(test_N.sum())}
    return Result(found, [_table(found)], [_figure(found)])


def _check(subject: Subject, parts: Sequence[str]) -> None:
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ValueError(f"parts={unknown} are not of {', '.join(PARTS)}.")
    for one in subject.trained:
        if one.module.d_out is not None:
            raise ValueError(
                f"{one.name} is a transcoder, whose error is not a part of what it reads; give autoencoders."
            )


def _parts(
    trained: Sequence[Trained], given: Labelled, parts: Sequence[str]
) -> Iterator[tuple[str | None, str, np.ndarray]]:
    """(dictionary, part, its mean over the tokens of each text)."""
    x_ND = mean(given.x_NTD, given.mask_NT)
    if "activation" in parts:
        yield None, "activation", x_ND
    for one in sorted(trained, key=lambda one: one.name):
        if "codes" in parts:
            codes = lambda x_BD, one=one: dense_codes(one, x_BD)
            yield one.name, "codes", _mean_of(codes, given)
        if {"reconstruction", "error"}.isdisjoint(parts):
            continue
        yhat_ND = _mean_of(lambda x_BD, one=one: np.asarray(one.reconstruct(x_BD)), given)
        both = {"reconstruction": yhat_ND, "error": x_ND - yhat_ND}
        yield from ((one.name, part, row_ND) for part, row_ND in both.items() if part in parts)


def _mean_of(read, given: Labelled) -> np.ndarray:
    """The mean over the tokens of each text of what `read` makes of them, in passes of one shape."""
    n, length, width = given.x_NTD.shape
    size = max(1, _ROWS // length)
    short = ((0, -n % size), (0, 0))
    x_NTD, mask_NT = np.pad(given.x_NTD, (*short, (0, 0))), np.pad(given.mask_NT, short)
    found = []
    for start in range(0, len(x_NTD), size):
        now = slice(start, start + size)
        row_BF = read(x_NTD[now].reshape(-1, width))
        found.append(mean(row_BF.reshape(size, length, -1), mask_NT[now]))
    return np.concatenate(found)[:n]


def _measured(row_ND: np.ndarray, class_N: np.ndarray, test_N: np.ndarray) -> dict[str, float]:
    """{"accuracy", "low", "high", "c"} of the probe on rows of one part."""
    from scipy.stats import binomtest  # half a second to import

    fit_N = np.flatnonzero(~test_N)
    centred_ND = row_ND - row_ND[fit_N].mean(0)
    row_ND = centred_ND / (np.sqrt((centred_ND[fit_N] ** 2).mean()) or 1.0)
    c, probe = _fitted(row_ND[fit_N], class_N[fit_N], int(class_N.max()) + 1)
    right_N = probe.logits(row_ND[test_N]).argmax(1) == class_N[test_N]
    ends = binomtest(int(right_N.sum()), len(right_N)).proportion_ci(0.95)
    return {"accuracy": float(right_N.mean()), "low": ends.low, "high": ends.high, "c": c}


def _fitted(x_BD: np.ndarray, class_B: np.ndarray, n_classes: int) -> tuple[float, SoftmaxProbe]:
    """(the c with most right answers on rows held out, its probe on all of them)."""
    some_BD, some_B = x_BD[:_CHOOSE], class_B[:_CHOOSE]
    held_B = np.arange(len(some_BD)) % _VALIDATED == 0
    probe, tried = none(n_classes, x_BD.shape[1]), []
    for c in _CS:
        probe = softmax(some_BD[~held_B], some_B[~held_B], c, probe)
        right = (probe.logits(some_BD[held_B]).argmax(1) == some_B[held_B]).mean()
        tried.append((right, c, probe))
        if right < max(tried)[0]:
            break
    _, c, probe = max(tried, key=lambda each: each[0])
    return c, softmax(x_BD, class_B, c, probe)


def _table(found: dict[str, Any]) -> Table:
    rows = [
        (
            row["dictionary"] or "",
            row["part"],
            row["accuracy"],
            f"{row['low']:.3f} .. {row['high']:.3f}",
        )
        for row in found["rows"]
    ]
    rows.append(("", "by chance", found["by_chance"], ""))
    return Table("Labels, by linear probes", ("dictionary", "of", "accuracy", "95 %"), rows)


def _figure(found: dict[str, Any]) -> Figure:
    """The accuracy of each part with its interval, dictionaries below each other."""
    figure, (axes,) = _draw.panels(1)
    names = list(dict.fromkeys(row["dictionary"] or "activation" for row in found["rows"]))
    colours = dict(zip(PARTS, ("#777777", "#365c8d", "#4ac16d", "#d95f02"), strict=True))
    for part in dict.fromkeys(row["part"] for row in found["rows"]):
        own = [row for row in found["rows"] if row["part"] == part]
        at = [names.index(row["dictionary"] or "activation") for row in own]
        ends = np.array(
            [[row["accuracy"] - row["low"], row["high"] - row["accuracy"]] for row in own]
        ).T
        value = [row["accuracy"] for row in own]
        axes.errorbar(value, at, xerr=ends, fmt="o", ms=4, color=colours[part], label=part)
    axes.axvline(found["by_chance"], color="#777777", linestyle=":", label="by chance")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    _draw.finish(axes, "accuracy of linear probes", "", log2=False)
    axes.legend(fontsize=8)
    return figure
