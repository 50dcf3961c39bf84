"""The cost of a metric: runs against the tokens and the seconds of their training.

Each subject is its own run, so that a schedule that ends in zero does so in each. Seconds are measured without
the first step, which compiles, and scaled to all steps (`timing.json`).
"""

from collections.abc import Sequence

from matplotlib.figure import Figure

from dictlearn.analyses import _draw
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject
from dictlearn.runs.workdir import read_json


def cost(
    subjects: Sequence[Subject],
    *,
    metrics: Sequence[str] = ("explained_variance", "ce_score"),
) -> Result:
    """The metrics of dictionaries, with the tokens and the seconds of their runs.

    Args:
        subjects: evaluated runs of `dictlearn train`; all dictionaries of a run are timed together.
        metrics: names in `metrics.json`; a metric that was not measured is None.

    Returns:
        A Result with `dictionaries`, a row for each.
    """
    rows = []
    for subject in subjects:
        timing = read_json(subject.workdir / "timing.json", "dictlearn train")
        rate = timing["tokens_per_second"]
        for name, record in subject.metrics.items():
            steps = record["hparams"].get("steps", subject.config["steps"])
            tokens = steps * subject.config["batch_size"]
            spent = {"tokens": tokens, "seconds": tokens / rate if rate else None}
            one = {"run": subject.name, "dictionary": name, "member": record["label"], **spent}
            rows.append({**one, "l0": record["l0"], **{key: record.get(key) for key in metrics}})
    columns = [key for key in rows[0] if key != "member"]
    table = Table("What it costs", columns, [[row[key] for key in columns] for row in rows])
    return Result({"dictionaries": rows}, [table], [_figure(rows, metrics)])


def _figure(rows: Sequence[dict], metrics: Sequence[str]) -> Figure:
    """Each metric against tokens and against seconds, a line for each member."""
    present = [key for key in metrics if any(row[key] is not None for row in rows)]
    members = list(dict.fromkeys(row["member"] for row in rows))
    figure, panels = _draw.panels(2 * len(present), width=3.6)
    pairs = [(key, x) for key in present for x in ("tokens", "seconds")]
    for (key, x), axes in zip(pairs, panels, strict=True):
        for i, member in enumerate(members):
            mine = [row for row in rows if row["member"] == member]
            points = [(row[x], row[key]) for row in mine if None not in (row[x], row[key])]
            if points:
                _draw.curve(axes, sorted(points), i, len(members), member)
        axes.set_xscale("log")
        _draw.finish(axes, key.replace("_", " "), x, log2=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return figure
