"""The records of a run in its workdir: its dictionaries with their metrics, and how they differ."""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from dictlearn.report.markup import number
from dictlearn.runs import parts
from dictlearn.runs.places import read_config
from dictlearn.runs.workdir import read_json, short

MEMBER = "member"
"""The name of a member in a setting."""

NEEDED = ("explained_variance", "l0", "dead_fraction", "n_tokens", "firing_tokens")
"""The metrics that every page shows."""

LAW = {
    *("law", "parameters", "identified", "irreducible", "competitors", "largest_out"),
    *("held_out_median", "held_out_worst", "held_out_interior_worst", "n_runs", "n_bootstrap"),
}
"""What a page shows of scaling.json."""


class Record(NamedTuple):
    """One dictionary: its name, the label of its member, its hyperparameters by their short names, and its
    metrics."""

    name: str
    member: str
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
        found.append(Record(name, record["label"], hparams[name], rest))
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
    """The hyperparameters whose values differ between dictionaries of one member: n_latents first, k next, the
    seed last."""
    found: dict[str, dict[str, set]] = {}
    for record in records:
        for name, value in record.hparams.items():
            of_member = found.setdefault(name, {}).setdefault(record.member, set())
            of_member.add(str(value))
    rank = {"n_latents": 0, "k": 1, "seed": 3}
    differ = [name for name, of in found.items() if any(len(values) > 1 for values in of.values())]
    return sorted(differ, key=lambda name: (rank.get(name, 2), name))


def settings(records: Sequence[Record]) -> dict[tuple[tuple[str, Any], ...], list[Record]]:
    """Dictionaries that differ only in the seed, by their member, where there are several, and the values of
    the varying hyperparameters that they have."""
    names = [name for name in varying(records) if name != "seed"]
    several = len({record.member for record in records}) > 1
    found: dict[tuple, list[Record]] = {}
    for record in records:
        own = ((name, record.hparams[name]) for name in names if name in record.hparams)
        key = (*([(MEMBER, record.member)] if several else []), *own)
        found.setdefault(key, []).append(record)
    return found


def label(setting: Sequence[tuple[str, Any]]) -> str:
    """A setting in words: "topk, 3,072 latents, k = 32"."""
    words = []
    for name, value in setting:
        alone = {MEMBER: f"{value}", "n_latents": f"{told(value)} latents"}
        words.append(alone.get(name, f"{name} = {told(value)}"))
    return ", ".join(words) or "all dictionaries"


def told(value: Any) -> str:
    """A hyperparameter in a table or a sentence."""
    counted = isinstance(value, int | float) and not isinstance(value, bool)
    return number(value) if counted else f"{value}"


def tokens_trained(run: Run) -> str:
    """The tokens seen at the last logged step, in words; the most, where dictionaries differ in their steps."""
    asked = run.config["steps"] * run.config["batch_size"]
    most = run.logged[-1]["tokens"] if run.logged else asked
    return f"up to {most:,}" if "steps" in varying(run.records) else f"{most:,}"


def _or(value, other):
    return other if value is None else value
