"""The records of a run in its workdir: its dictionaries with their metrics, and how they differ."""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from dictlearn.runs import parts
from dictlearn.runs.places import read_config
from dictlearn.runs.workdir import read_json, short

NEEDED = ("explained_variance", "l0", "dead_fraction", "n_tokens", "firing_tokens")
"""The metrics that every page shows."""

LAW = {
    *("law", "parameters", "identified", "irreducible", "competitors", "largest_out"),
    *("held_out_median", "held_out_worst", "held_out_interior_worst", "n_runs", "n_bootstrap"),
}
"""What a page shows of scaling.json."""


class Record(NamedTuple):
    """One dictionary: its name, its hyperparameters by their short names, and its metrics."""

    name: str
    hparams: dict
    metrics: dict


class Run(NamedTuple):
    """The files of a run. logged: the lines of metrics.jsonl. scaling: scaling.json, or None."""

    workdir: Path
    config: dict
    records: list[Record]
    logged: list[dict]
    scaling: dict | None


def read(workdir: Path) -> Run:
    """Reads a workdir. Raises FileNotFoundError, naming the command, without config or metrics."""
    config = read_config(workdir)
    metrics = parts.records(workdir)
    if not metrics:
        raise ValueError(f"{workdir / 'metrics.json'} names no dictionary.")
    lacking = sorted({key for one in metrics.values() for key in NEEDED if key not in one})
    if lacking:
        raise ValueError(
            f"{workdir / 'metrics.json'} has no {', '.join(lacking)}, which a report shows; leave "
            f"config.meters out, or add the meters of these, and run `dictlearn eval --workdir={workdir}`."
        )
    found = []
    hparams = dict(zip(metrics, short([one["hparams"] for one in metrics.values()]), strict=True))
    for name, record in metrics.items():
        rest = {key: value for key, value in record.items() if key not in ("label", "hparams")}
        found.append(Record(name, hparams[name], rest))
    law = workdir / "scaling.json"
    fitted = fitted_law(law, LAW, f"dictlearn fit --workdir={workdir}") if law.exists() else None
    return Run(workdir, config, found, parts.lines(workdir), fitted)


def fitted_law(path: Path, needed: Set[str], again: str) -> dict:
    """A fitted law. Raises ValueError for one without what the page shows, such as that of an older version.
    again: the command that writes it."""
    found = read_json(path, again)
    if lacking := sorted(needed - found.keys() if isinstance(found, dict) else needed):
        raise ValueError(f"{path} has no {', '.join(lacking)}; `{again}` writes it again.")
    return found


def best(records: Sequence[Record]) -> Record:
    """The dictionary with the largest explained variance; null counts as the smallest."""
    return max(records, key=lambda r: _or(r.metrics["explained_variance"], float("-inf")))


def varying(records: Sequence[Record]) -> list[str]:
    """The hyperparameters whose values differ: n_latents first, k next, the seed last."""
    names = {name for record in records for name in record.hparams}
    rank = {"n_latents": 0, "k": 1, "seed": 3}
    differ = [n for n in names if len({str(r.hparams.get(n)) for r in records}) > 1]
    return sorted(differ, key=lambda name: (rank.get(name, 2), name))


def settings(records: Sequence[Record]) -> dict[tuple[tuple[str, Any], ...], list[Record]]:
    """Dictionaries that differ only in the seed, by the values of the varying hyperparameters."""
    names = [name for name in varying(records) if name != "seed"]
    found: dict[tuple, list[Record]] = {}
    for record in records:
        key = tuple((name, record.hparams.get(name)) for name in names)
        found.setdefault(key, []).append(record)
    return found


def label(setting: Sequence[tuple[str, Any]]) -> str:
    """A setting in words: "3,072 latents, k = 32"."""
    words = []
    for name, value in setting:
        shown = f"{value:,}" if isinstance(value, int) else f"{value}"
        words.append(f"{shown} latents" if name == "n_latents" else f"{name} = {shown}")
    return ", ".join(words) or "all dictionaries"


def tokens_trained(run: Run) -> str:
    """The tokens seen at the last logged step, in words; the most, where dictionaries differ in their steps."""
    asked = run.config["steps"] * run.config["batch_size"]
    most = run.logged[-1]["tokens"] if run.logged else asked
    return f"up to {most:,}" if "steps" in varying(run.records) else f"{most:,}"


def _or(value, other):
    return other if value is None else value
