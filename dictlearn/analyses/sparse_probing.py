"""Sparse probing: how well a few latents tell the class of a document (SAEBench).

    row of a document    the mean of its codes over its tokens
    question             is it of this class? As many documents of the others, so that chance is 1/2
    probe of k           L2 logistic regression on the k latents whose class means differ most

The same probes on the channels of the activation, on its principal components and on a random dictionary of the
same width and L0 are the baselines. The probe of all channels is what a linear probe can know.

Source: SAEBench 8042bb3, whose keys the values have; Gurnee et al. 2023; Kantamneni et al. 2025.
Differs: analyses/_probing.py and tasks/_draw.py. SAEBench has one draw, and no interval.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dictlearn.analyses import _asked, _documents, _draw, _probing
from dictlearn.analyses._asked import Asked
from dictlearn.analyses._probing import LLM, PCA, RANDOM, SAE, Found, How
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly

NEEDS = ("model", "origin")


def sparse_probing(
    subjects: Sequence[Subject],
    *,
    tasks: str | Sequence[str] | Mapping[str, Mapping[str, Any]] = {"wiki_topics": {"classes": 5}},
    ks: Sequence[int] = (1, 2, 5),
    n_train: int = 640,
    n_test: int = 160,
    splits: int = 3,
    context: int = 128,
    all_latents: bool = False,
    seed: int = 0,
    model: str = "",
    tap: str = "",
) -> Result:
    """The accuracy of probes of few latents of every dictionary, and of the baselines.

    Args:
        subjects: one run on a language model's activations, or dictionaries with `model`.
        tasks: names of `tasks`, paths of files, or {name: settings}. The setting `balance` names an attribute
            of which each class gets equally many documents of each value.
        ks: the numbers of latents.
        n_train, n_test: the examples of each question, fewer where a class is small; SAEBench has 4000 and
            1000.
        splits: the number of draws of the negative examples and, where the task has no split, of the split.
        context: the tokens of a document that are read.
        all_latents: whether the probe of all latents is fitted too, which takes seconds for each dictionary.
        seed: the seed of all draws.
        model, tap: the model and the tap of dictionaries without a run; empty for the run's, or the file's tap.

    Returns:
        A Result with the records of SAEBench by dictionary, and a row for each setting with the half width of
        its 95 % interval over dictionary seeds and splits.

    Raises:
        ValueError: for a subject without a model, an unknown task, and settings out of bounds.
    """
    (subject,) = exactly(1, subjects, "sparse_probing")
    how = How(tuple(ks), splits, all_latents, seed)
    how.check()
    lm, taps = _documents.site(subject, model, tap)
    given = _asked.named(tasks)
    drawn = lambda name: _asked.drawn(name, given[name], lm, n_train, n_test, seed)
    asked = {name: _asked.asked(subject, lm, taps, drawn(name), context, seed) for name in given}
    found = {name: _probing.measured(how, one.drawn, one.rows) for name, one in asked.items()}
    rows = _rows(subject, how, asked, found)
    config = {"tasks": given, **how._asdict(), "n_train": n_train, "n_test": n_test}
    values = {
        "eval_type_id": "sparse_probing",
        "eval_config": {**config, "context": context, "model": lm.name, "tap": taps},
        "documents": {name: one.counts for name, one in asked.items()},
        "dictionaries": {one.name: _probing.record(one.name, found) for one in subject.trained},
        "settings": rows,
    }
    return Result(values, [_table(rows, how)], [_figure(rows, how)])


def _rows(
    subject: Subject, how: How, asked: Mapping[str, Asked], found: Mapping[str, Found]
) -> list[dict[str, Any]]:
    """A row for each baseline and each setting: the mean of every accuracy over dictionary seeds and splits."""
    rows = [
        _row(how, found, "", "residual channels", LLM, [""]),
        _row(how, found, "", "principal components", PCA, [""]),
    ]
    for label, words, names in _asked.settings(subject):
        l0 = float(np.mean([one.l0[name] for one in asked.values() for name in names]))
        rows.append({**_row(how, found, label, words, SAE, names), "l0": l0})
        rows.append({**_row(how, found, "random", f"random for {words}", RANDOM, names), "l0": l0})
    return rows


def _row(
    how: How, found: Mapping[str, Found], label: str, words: str, kind: str, names: Sequence[str]
) -> dict[str, Any]:
    row: dict[str, Any] = {"label": label, "setting": words, "kind": kind, "l0": None}
    for key in how.keys:
        values = [one for name in names for one in _probing.runs((kind, name), key, found)]
        row[key], row[f"{key}_half"] = _asked.interval(values)
    return {**row, "runs": len(names) * how.splits}


def _table(rows: Sequence[Mapping], how: How) -> Table:
    heads = [*(f"top {k}" for k in how.ks), "all"]
    columns = [
        "dictionary",
        "L0",
        *(cell for head in heads for cell in (head, f"{head} \u00b1")),
        "runs",
    ]
    cells = [
        (
            row["setting"],
            row["l0"],
            *(row[key + end] for key in how.keys for end in ("", "_half")),
            row["runs"],
        )
        for row in rows
    ]
    return Table("Accuracy of sparse probes", columns, cells)


def _figure(rows: Sequence[Mapping], how: How) -> Figure:
    """A panel for each k: accuracy against L0, the baselines without an L0 dashed."""
    figure, panels = _draw.panels(len(how.ks))
    labels = list(dict.fromkeys(row["label"] for row in rows if row["l0"]))
    for k, axes in zip(how.ks, panels, strict=True):
        for i, label in enumerate(labels):
            own = [row for row in rows if row["label"] == label and row["l0"]]
            points = sorted((row["l0"], row[_probing.top(k)]) for row in own)
            _draw.curve(axes, points, i, len(labels), label)
        flat = [(row["setting"], row[_probing.top(k)]) for row in rows if row["l0"] is None]
        for style, (words, value) in zip(("--", ":"), flat, strict=True):
            axes.axhline(value, color="#777777", linestyle=style, label=words)
        _draw.finish(axes, f"accuracy of probes of {k}", "L0, active latents per token")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure
