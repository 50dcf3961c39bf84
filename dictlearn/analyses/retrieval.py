"""Nearest-neighbour retrieval with sparse codes, against equally many principal components and first
dimensions.

    accuracy = share of queries whose nearest row, by cosine, has their label

The queries are the held-out rows of the stream; the database is the rows before them. A class label is searched
in the database. A group label, which no row of the database shares, is searched among the other queries, for
queries whose group has several.

Source: Wen et al. 2025 (arXiv:2503.01776), contrastive sparse representation.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from dictlearn.analyses import _draw
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._settings import by_setting
from dictlearn.analyses._subject import Subject, dense_codes, exactly
from dictlearn.runs.workdir import read_json

NEEDS = ("array",)


def retrieval(subjects: Sequence[Subject], *, labels: str = "", ks: Sequence[int] = ()) -> Result:
    """The accuracy of every dictionary's codes, of baselines of the same size, and of the whole activations.

    Args:
        subjects: one evaluated run on an array (`stream.path`, a `.npy` with held-out rows at its end).
        labels: a JSON file {"class": [...], "group": [...]} with a value for each row of the array; empty for
            `labels.json` in its folder.
        ks: the sizes of the baselines; empty for each dictionary's L0, rounded.

    Returns:
        A Result with `ways`, a row for each dictionary and baseline.

    Raises:
        ValueError: for a run without an array, and for labels of another number of rows.
    """
    (subject,) = exactly(1, subjects, "retrieval")
    path = Path(subject.config["stream"].get("path", ""))
    if path.suffix != ".npy":
        raise ValueError(f"{subject.name} was not trained on an array; its rows have no labels.")
    x_ND = np.load(path)
    of = read_json(Path(labels or path.with_name("labels.json")), "the script that made the array")
    class_N, group_N = (np.unique(of[key], return_inverse=True)[1] for key in ("class", "group"))
    if not len(class_N) == len(group_N) == len(x_ND):
        raise ValueError(f"{len(class_N)} classes and {len(group_N)} groups for {len(x_ND)} rows.")
    n = len(x_ND) - sum(len(batch.x_BD) for batch in subject.stream.held_out or ())
    near = lambda rows_ND: accuracy(rows_ND, class_N, group_N, n)
    rows = [{"way": "whole", "size": x_ND.shape[1], **near(x_ND)}]
    sizes = {name: record["l0"] for name, record in subject.metrics.items()}
    for k in ks or sorted({max(1, round(l0)) for l0 in sizes.values()}):
        rows += [{"way": way, "size": k, **near(part)} for way, part in _baselines(x_ND, n, k)]
    trained = {one.name: one for one in subject.trained}
    for setting, names in by_setting(subject).items():
        of_k = lambda name: name.rpartition(".")[2] == "k"
        rest = setting._replace(values=tuple(pair for pair in setting.values if not of_k(pair[0])))
        way = ", ".join(filter(None, (setting.label, rest.words)))
        for name in names:
            found = near(dense_codes(trained[name], x_ND))
            rows.append({"way": way, "size": sizes[name], **found})
    table = Table("Nearest-neighbour accuracy", (*rows[0],), [[*row.values()] for row in rows])
    return Result({"ways": rows}, [table], [_figure(rows)])


def _baselines(x_ND: np.ndarray, n: int, k: int):
    """(name, rows) of the first `k` principal components of the database and of the first `k` dimensions."""
    mean_D = x_ND[:n].mean(0)
    axes_DD = np.linalg.svd(x_ND[:n] - mean_D, full_matrices=False)[2]
    return ("pca", (x_ND - mean_D) @ axes_DD[:k].T), ("truncation", x_ND[:, :k])


def accuracy(
    rows_ND: Float[np.ndarray, "N D"],
    class_N: Int[np.ndarray, " N"],
    group_N: Int[np.ndarray, " N"],
    n_database: int,
) -> dict[str, float]:
    """The accuracy of retrieval by class and by group.

    Args:
        rows_ND: the rows; the queries are those from `n_database` on.
        class_N, group_N: their labels.
        n_database: the number of rows of the database.

    Returns:
        {"class", "group"}.
    """
    length_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    rows_ND = rows_ND / np.maximum(length_N1, 1e-12)
    base_ND, query_QD = rows_ND[:n_database], rows_ND[n_database:]
    nearest_Q = (query_QD @ base_ND.T).argmax(1)
    by_class = np.mean(class_N[nearest_Q] == class_N[n_database:])
    group_Q, among_QQ = group_N[n_database:], query_QD @ query_QD.T
    np.fill_diagonal(among_QQ, -np.inf)
    other_Q = np.bincount(group_Q)[group_Q] > 1
    by_group = (
        np.mean((group_Q[among_QQ.argmax(1)] == group_Q)[other_Q]) if other_Q.any() else np.nan
    )
    return {"class": float(by_class), "group": float(by_group)}


def _figure(rows: Sequence[Mapping]) -> Figure:
    """Accuracy against size: a line for each method, the whole activations dashed."""
    whole, others = rows[0], rows[1:]
    ways = list(dict.fromkeys(row["way"] for row in others))
    figure, panels = _draw.panels(2)
    for axes, label in zip(panels, ("class", "group"), strict=True):
        for i, way in enumerate(ways):
            points = [(row["size"], row[label]) for row in others if row["way"] == way]
            _draw.curve(axes, sorted(points), i, len(ways), way)
        axes.axhline(whole[label], color="#777777", linestyle="--", label=f"all {whole['size']}")
        _draw.finish(axes, f"nearest-neighbour accuracy: {label}", "active latents, or dimensions")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure
