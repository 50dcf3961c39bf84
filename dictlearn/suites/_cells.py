"""The cells of a benchmark: dictionary x evaluation x seed, each a file in SAEBench's schema.

    FOLDER/cells/EVALUATION/DICTIONARY__seedN.json

A cell is written as a whole, and says by which settings, model and weights it was made. One that was made by
the same is kept, so that a benchmark that was interrupted goes on where it stopped. Any other is computed.

The schema has fields for SAELens' names: `sae_lens_id` is the dictionary, `sae_lens_release_id` the file or run
that holds it. `cell`, `documents` and `baselines` are ours.
"""

import dataclasses
import hashlib
import inspect
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dictlearn import analyses, dictionaries
from dictlearn import lm as language
from dictlearn.analyses import Subject
from dictlearn.analyses._asked import settings
from dictlearn.analyses._probing import SAE
from dictlearn.analyses._result import plain
from dictlearn.events.writer import identity
from dictlearn.runs.checkpoint import versions
from dictlearn.runs.owner import owned
from dictlearn.runs.trained import Trained
from dictlearn.runs.workdir import read_json, write_json
from dictlearn.suites._suite import Evaluation, Suite

_TOGETHER, _LATENTS = 4, 65_536
"""Dictionaries that are evaluated in one pass of the language model, and more if their latents are no more than
so many: all their codes are held."""
UNREADABLE = (ValueError, OSError)
"""Errors of an evaluation that is left out: its data set is missing, or does not suit the dictionary."""


class Entry(NamedTuple):
    """A dictionary of a benchmark. release: the file or the run. setting: the row of the table that it is part
    of. line: the line of a figure that it is a point of, of the file, the run or its member. subject: of it
    alone. given: settings of every analysis. made_of: its weights and its model, as checksums, and the data of
    a run."""

    release: str
    setting: str
    line: str
    dictionary: Trained
    subject: Subject
    given: Mapping[str, str]
    made_of: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Its name as a file's."""
        names = filter(None, (self.release, self.dictionary.name))
        return re.sub(r"[^\w.=-]+", "_", "__".join(names))


class Benchmark(NamedTuple):
    """suite, entries, seeds: what is asked. folder: of the cells."""

    suite: Suite
    entries: Sequence[Entry]
    seeds: Sequence[int]
    folder: Path

    def path(self, evaluation: Evaluation, entry: Entry, seed: int) -> Path:
        """The file of a cell."""
        return self.folder / "cells" / evaluation.analysis / f"{entry.key}__seed{seed}.json"

    def cells(self) -> Iterator[tuple[Evaluation, Entry, int]]:
        """Every cell, evaluation by evaluation."""
        for evaluation in self.suite.evaluations:
            for entry in self.entries:
                for seed in self.seeds:
                    yield evaluation, entry, seed


def entries(paths: Sequence[str | Path], model: str = "", tap: str = "") -> list[Entry]:
    """The dictionaries of runs, of exported files and of folders of them.

    Args:
        paths: the paths.
        model, tap: the model and the tap of dictionaries without a run; empty for the file's tap.

    Returns:
        The dictionaries. Seeds of one setting of a run have the same `setting`, which begins with the name of
        the run where there are several paths.

    Raises:
        FileNotFoundError: for a path without a dictionary.
        ValueError: for two dictionaries of one name, and for one without a run without `model`.
    """
    found = [entry for path in paths for entry in _entries(Path(path), model, tap)]
    keys = [entry.key for entry in found]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"two dictionaries are called {twice[0]!r}; rename one of their files.")
    return found if len(paths) > 1 else [_alone(entry) for entry in found]


def _alone(entry: Entry) -> Entry:
    """A dictionary of the only path, whose name is then not said."""
    own = lambda words: words.removeprefix(f"{entry.release}: ")
    return entry._replace(setting=own(entry.setting), line=own(entry.line))


def _entries(path: Path, model: str, tap: str) -> Iterator[Entry]:
    whole = Subject.of(path)
    of_run = whole.run is not None
    if not of_run and not model:
        raise ValueError(f"{path} is no run and has no language model; give --model, and --tap.")
    given = {} if of_run else {"model": model, "tap": tap}
    setup = whole.config if of_run else {}
    data = {key: setup[key] for key in ("harvest", "stream") if key in setup}
    where: dict[str, Any] = setup["model"] if of_run else {"name": model}
    known = inspect.signature(language.identity).parameters
    source = language.identity(**{key: where[key] for key in known if key in where})
    by_name = {one.name: one for one in whole.trained}
    asked = settings(whole)
    several = of_run and len({label for label, _, _ in asked}) > 1
    for label, words, names in asked:
        line = f"{path.stem}: {label}" if several else path.stem
        for name in names:
            weights = {"dictionary": identity(by_name[name]), "model": source, **data}
            alone = Subject(name, given=[by_name[name]], setup=setup)
            # A file's only dictionary has no name, or the file's.
            setting = path.stem if words in ("", path.stem) else f"{path.stem}: {words}"
            yield Entry(path.stem, setting, line, by_name[name], alone, given, weights)


def run(asked: Benchmark, say: Callable[[str], None] = lambda line: None) -> dict[str, str]:
    """Computes the cells that are missing, as the only process that writes the folder.

    Args:
        asked: the benchmark.
        say: called with a line for each cell.

    Returns:
        {evaluation: why it did not run}. An evaluation that fails on one cell is not tried on others.
    """
    with owned(asked.folder, "dictlearn benchmark"):
        return _run(asked, say)


def _run(asked: Benchmark, say: Callable[[str], None]) -> dict[str, str]:
    failed: dict[str, str] = {}
    for evaluation, seed in itertools.product(asked.suite.evaluations, asked.seeds):
        name = evaluation.analysis
        there = lambda entry, of=evaluation, n=seed: kept(asked.path(of, entry, n), of, entry, n)
        missing = [entry for entry in asked.entries if there(entry) is None]
        if kept_already := len(asked.entries) - len(missing):
            say(f"{name}, seed {seed}: {kept_already} cells are kept")
        for some in _together(missing) if name not in failed else ():
            try:
                records = _records(evaluation, some, seed)
            except UNREADABLE as error:
                failed[name] = " ".join(str(error).split())
                say(f"{name}, seed {seed}: {failed[name]}")
                break
            for entry, record in zip(some, records, strict=True):
                path = asked.path(evaluation, entry, seed)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, record)
                say(f"{name}, seed {seed}, {entry.key}: {record['cell']['seconds']:.1f} s")
    return failed


def _together(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Dictionaries of one site, a few at once: the language model runs once for them."""
    site = lambda entry: json.dumps(
        plain([entry.given, {**entry.made_of, "dictionary": ""}]), sort_keys=True
    )
    for _, found in itertools.groupby(sorted(entries, key=site), site):
        own = list(found)
        widest = max(entry.dictionary.module.n_latents for entry in own)
        n = max(_TOGETHER, _LATENTS // widest)
        yield from (own[i : i + n] for i in range(0, len(own), n))


def kept(path: Path, evaluation: Evaluation, entry: Entry, seed: int) -> dict[str, Any] | None:
    """The record of a cell; None where there is none, or one that was made by other settings."""
    try:
        found = read_json(path, "dictlearn benchmark")
        same = found["cell"]["of"] == _made_by(evaluation, entry, seed)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found if same else None


def _made_by(evaluation: Evaluation, entry: Entry, seed: int) -> dict[str, Any]:
    """Everything that determines a cell."""
    return plain(
        {
            "analysis": evaluation.analysis,
            "settings": {**evaluation.settings, "seed": seed, **entry.given},
            **entry.made_of,
        }
    )


def _records(evaluation: Evaluation, entries: Sequence[Entry], seed: int) -> list[dict[str, Any]]:
    """Runs the analysis on dictionaries of one site; the record of each as SAEBench writes it."""
    began, first = time.time(), entries[0]
    renamed = [dataclasses.replace(each.dictionary, name=each.key) for each in entries]
    subject = Subject(first.key, given=renamed, setup=first.subject.setup)
    chosen = {**evaluation.settings, "seed": seed, **first.given}
    values = analyses.run(evaluation.analysis, [subject], **chosen).values
    seconds = (time.time() - began) / len(entries)
    return [
        _record(values, each, _made_by(evaluation, each, seed), began, seconds) for each in entries
    ]


def _record(
    values: Mapping[str, Any], entry: Entry, of: Mapping[str, Any], began: float, seconds: float
) -> dict[str, Any]:
    mine = [row for row in values["settings"] if row["dictionaries"] in ([], [entry.key])]
    rows = {row["kind"]: row for row in mine}
    digest = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()
    return plain(
        {
            "eval_type_id": values["eval_type_id"],
            "eval_config": values["eval_config"],
            "eval_id": digest[:32],
            "datetime_epoch_millis": int(began * 1000),
            "eval_result_unstructured": {},
            **values["dictionaries"][entry.key],
            "sae_bench_commit_hash": f"dictlearn {versions()['dictlearn']}",
            "sae_lens_id": entry.dictionary.name,
            "sae_lens_release_id": entry.release,
            "sae_lens_version": "",
            "sae_cfg_dict": dictionaries.describe(entry.dictionary.module),
            "documents": values.get("documents", {}),
            "baselines": {kind: row for kind, row in rows.items() if kind != SAE},
            "cell": {"of": of, "l0": rows[SAE]["l0"], "seconds": seconds},
        }
    )
