"""Scaling laws of runs: from the metrics of workdirs to a fitted law and its figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dictlearn.runs import drawn
from dictlearn.runs.workdir import write_json
from dictlearn.scaling import laws
from dictlearn.scaling.draw import draw
from dictlearn.scaling.inputs import LOSS, rows
from dictlearn.scaling.summary import summarise


def fit_law(
    name: str,
    workdirs: Sequence[Path],
    out: Path,
    at: Mapping[str, float] | None = None,
    loss: str = LOSS,
) -> dict:
    """Fits a law to a metric of every dictionary of some runs, by default the held-out normalised MSE (`fvu`).

    Args:
        name: a law, of `laws.names()`.
        workdirs: the workdirs of the runs.
        out: the folder into which the law and its figure are written, see `paths`.
        at: {input: value}; only dictionaries with these values are fitted.
        loss: the metric, of metrics.json.

    Returns:
        The content of the JSON: what `summarise` returns, "loss", and the rows of the runs.

    Raises:
        ValueError: for an unknown law or input, a dictionary without what the law needs, and too few runs.
    """
    law = laws.make(name)
    runs = rows(law, workdirs, at, loss)
    found = {**summarise(law, runs), "loss": loss, "at": dict(at or {}), "runs": runs}
    out.mkdir(parents=True, exist_ok=True)
    numbers, figure = paths(name, out)
    write_json(numbers, found)
    drawn.write(draw(runs, found, loss), figure)
    return found


def paths(name: str, out: Path) -> tuple[Path, Path]:
    """The files of a fitted law. The report shows those of the law of a fit that names none.

    Args:
        name: the law.
        out: the folder.

    Returns:
        (scaling.json, scaling.svg), with the name of any other law in theirs: scaling_NAME.json.
    """
    stem = "scaling" if name == laws.DEFAULT else f"scaling_{name}"
    return out / f"{stem}.json", out / f"{stem}.svg"
