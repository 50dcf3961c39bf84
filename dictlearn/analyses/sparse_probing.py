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

from matplotlib.figure import Figure

from dictlearn.analyses import _asked, _draw, _probing
from dictlearn.analyses._probing import How
from dictlearn.analyses._result import Result
from dictlearn.analyses._subject import Subject

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
            of which each class gets equally many documents of each value; `task` names the task, where the name
            is one of your own, so that a task can be read twice.
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
    how = How(tuple(ks), splits, all_latents, seed)
    how.check()
    data = _asked.Data(tasks, n_train, n_test, context, seed, model, tap)
    opened = _asked.opened(subjects, "sparse_probing", data)
    found = {
        name: _probing.measured(how, one.drawn, one.rows) for name, one in opened.asked.items()
    }
    rows = _asked.rows(
        opened.subject, how.keys, lambda at, key: _probing.runs(at, key, found), opened.l0
    )
    heads = [*(f"top {k}" for k in how.ks), "all"]
    values = {
        **opened.values("sparse_probing", data, **how._asdict()),
        "dictionaries": {
            one.name: _probing.record(one.name, found) for one in opened.subject.trained
        },
        "settings": rows,
    }
    table = _asked.table("Accuracy of sparse probes", rows, dict(zip(how.keys, heads, strict=True)))
    return Result(values, [table], [_figure(rows, how)])


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
