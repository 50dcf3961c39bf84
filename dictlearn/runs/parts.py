"""The parts of a grid: the runs in one workdir.

    W/                  a run, with the cells that the config had when it was trained
    W/added/1/, 2/ ...  runs of the cells that were added to the config later, one for each time

Each is a workdir like any other. A part that is finished is never written again, so that cells, and longer
trainings, are added to a grid without a change of what there is. Whoever reads the dictionaries of W reads
those of all parts.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictlearn.experiment import grid, members
from dictlearn.runs._seal import SEAL
from dictlearn.runs.checkpoint import RECORD
from dictlearn.runs.places import found
from dictlearn.runs.tied import refuse_other_data
from dictlearn.runs.workdir import logged, read_records

ADDED = "added"


def parts(workdir: Path) -> list[Path]:
    """The workdir, and the runs that were added to it and are measured, in their order."""
    return [workdir, *(part for part in _added(workdir) if (part / "metrics.json").exists())]


def records(workdir: Path, file: str = "metrics.json") -> dict[str, dict]:
    """The records of all parts, such as those of `metrics.json`."""
    return {name: one for part in parts(workdir) for name, one in read_records(part / file).items()}


def lines(workdir: Path) -> list[dict]:
    """The lines of the logs of all parts, in the order of their steps."""
    every = [line for part in parts(workdir) for line in logged(part / "metrics.jsonl")]
    return sorted(every, key=lambda line: line["step"])


def runs(config: Mapping, workdir: Path) -> list[tuple[dict, Path]]:
    """The runs of a grid with their configs: those there are, then one for the cells that none of them has.

    Where the workdir holds no run, or one of a config with other cells, it is the only run, of the whole
    config.
    """
    begun = [(meta, part) for part in [workdir, *_added(workdir)] if (meta := _newest(part))]
    there = [(found(meta["config"], part), part) for meta, part in begun]
    if not there or not all(grid.within(own, config) for own, _ in there):
        return [(dict(config), workdir)]
    old = [(grid.like(config, own), part) for own, part in there]
    left = grid.rest(config, [own for own, _ in there])
    free = (workdir / ADDED / str(n) for n in itertools.count(1))
    taken = [part for _, part in begun]
    new = next(part for part in free if part not in taken)
    return old if left is None else [*old, (left, new)]


def unfinished(config: Mapping, workdir: Path) -> list[tuple[dict, Path]]:
    """The runs of a grid without those that are finished; the last run is always there."""
    every = runs(config, workdir)
    return [run for run in every[:-1] if not _finished(*run)] + every[-1:]


def refuse_data_of_others(
    workdir: Path, part: Path, now: Mapping[str, Any], allow_changed: bool
) -> None:
    """Raises ValueError for a part whose data are not those of the workdir's own run. now: the fingerprint of
    the part's stream."""
    if part != workdir and (first := _newest(workdir)):
        refuse_other_data(workdir, first["data"], now, allow_changed)


def _finished(config: Mapping, part: Path) -> bool:
    """Whether every cell is trained to its end, and measured."""
    newest = _newest(part)
    trained = newest is not None and newest["step"] >= max(m.steps for m in members(config))
    return trained and (part / "metrics.json").exists()


def _newest(part: Path) -> dict | None:
    """The metadata of the newest checkpoint whose record is as it was sealed; None without one."""
    for step in reversed(_numbered(part / "checkpoints")):
        if (step / RECORD).exists() and (step / SEAL).exists():
            record = (step / RECORD).read_bytes()
            if hashlib.sha256(record).hexdigest().encode() in (step / SEAL).read_bytes():
                return json.loads(record)["meta"]
    return None


def _added(workdir: Path) -> list[Path]:
    return _numbered(workdir / ADDED)


def _numbered(folder: Path) -> list[Path]:
    """The folders in it whose names are numbers, in their order."""
    return sorted((p for p in folder.glob("*") if p.name.isdigit()), key=lambda p: int(p.name))
