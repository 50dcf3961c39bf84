"""The files of a workdir and their atomic writes.

    config.json     the config of the experiment        checkpoints/    see `checkpoint`
    metrics.jsonl   one line for each logged step       metrics.json    {NAME: {label, hparams, metric ...}}
    scaling.json, scaling.svg                           report.html
    added/1/, ...   runs of the cells that were added to the config later, see `parts`
    bad_batch.json  the last skipped batch of a run that ended because of steps that were not finite
    timing.json     seconds and tokens per second; a file of its own, so that all other files are
                    reproducible to the byte

In a run of several processes, only process 0 writes.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from dictlearn import files
from dictlearn.experiment import values


def replace(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    if jax.process_index() == 0:
        with files.whole(path) as half:
            half.write_text(text, "utf-8")


def write_json(path: Path, tree: Mapping) -> None:
    """Writes a tree as JSON; numbers that are not finite become null."""
    replace(path, json.dumps(finite(tree), indent=2) + "\n")


def read_json(path: Path, made_by: str) -> Any:
    """Reads a JSON file of a workdir.

    Args:
        path: the file.
        made_by: the command that writes it, for messages.

    Returns:
        The content.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; `{made_by}` writes it.")
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; `{made_by}` writes it again.") from error


def finite(tree):
    """The tree with null for every number that is not finite, because JSON cannot represent it."""
    if isinstance(tree, Mapping):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def write_records(path: Path, records: Mapping[str, Mapping]) -> None:
    """Writes a file of records such as `metrics.json`; `read_records` restores the hyperparameters exactly."""
    told = lambda name, one: {**one, "hparams": values.to_json(one["hparams"], name)}
    write_json(path, {name: told(name, record) for name, record in records.items()})


def read_records(path: Path) -> dict[str, dict]:
    """The records of a file such as `metrics.json`; hyperparameters equal those that were written."""
    again = f"dictlearn eval --workdir={path.parent}"
    found = read_json(path, again)
    for name, record in found.items() if isinstance(found, dict) else [("it", found)]:
        if not isinstance(record, dict) or not isinstance(record.get("hparams"), dict):
            raise ValueError(f"{path} is damaged: {name} is no record; `{again}` writes it again.")
    told = lambda record: {**record, "hparams": values.from_json(record["hparams"])}
    return {name: told(record) for name, record in found.items()}


def flat(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts with their dotted names."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def short(trees: Sequence[Mapping]) -> list[dict]:
    """Flat trees of hyperparameters: a leaf has its last name ("k") where only one path ends in it,
    otherwise its whole path ("rule.name")."""
    every = [dict(flat(tree)) for tree in trees]
    last = Counter(path.rsplit(".", 1)[-1] for path in {path for one in every for path in one})
    name = lambda path: path if last[path.rsplit(".", 1)[-1]] > 1 else path.rsplit(".", 1)[-1]
    return [{name(path): value for path, value in one.items()} for one in every]


class Log:
    """metrics.jsonl, written one logged step late, so that reading a value never waits for its step."""

    def __init__(self, path: Path, start: int):
        """Keeps the lines of steps up to `start`, and drops later lines of a killed run."""
        self._path, self._waiting = path, None
        kept = [line for line in _whole_lines(path) if _parsed(path, line)["step"] <= start]
        replace(path, "".join(line + "\n" for line in kept))

    def take(self, step: int, tokens: int, infos: list[tuple[list[str], dict]]) -> dict[str, Any]:
        """Takes a logged step, and writes the previous one.

        Args:
            step: the step.
            tokens: the number of tokens up to it.
            infos: for each program, the names of its members and its info, every value [N].

        Returns:
            The line that was written; {} if there was none.
        """
        before, self._waiting = self._write(), (step, tokens, infos)
        return before

    def flush(self) -> dict[str, Any]:
        """Writes the waiting line and returns it; {} if there is none. After that, a power cut loses no
        line."""
        line = self._write()
        if jax.process_index() == 0:
            files.sync(self._path)
        return line

    def _write(self) -> dict[str, Any]:
        if self._waiting is None:
            return {}
        (step, tokens, infos), self._waiting = self._waiting, None
        line: dict[str, Any] = {"step": step, "tokens": tokens}
        for names, info in infos:
            values = {key: value.tolist() for key, value in jax.device_get(info).items()}
            for n, name in enumerate(names):
                line[name] = {key: value[n] for key, value in values.items()}
        if jax.process_index() == 0:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite(line)) + "\n")
        return line


def logged(path: Path) -> list[dict]:
    """The lines of a log; none where there is no log. Raises ValueError for a damaged one, naming it."""
    return [_parsed(path, line) for line in _whole_lines(path)]


def _parsed(path: Path, line: str) -> dict:
    try:
        found = json.loads(line)
        return {**found, "step": int(found["step"])}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged: the line {line[:40]!r} is not a logged step; remove that line, or the "
            "file, which only reports and fits of laws read."
        ) from error


def _whole_lines(path: Path) -> list[str]:
    """The complete lines; a last line without its end was cut off by a kill."""
    if not path.exists():
        return []
    return [
        line[:-1]
        for line in path.read_text("utf-8", "replace").splitlines(keepends=True)
        if line.endswith("\n")
    ]
