"""The subject of an analysis: trained dictionaries with their run, each part read when it is first used."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from dictlearn import interop
from dictlearn import lm as language
from dictlearn.experiment import models
from dictlearn.experiment.stream import open_stream, origin
from dictlearn.lm import LM
from dictlearn.ops.firing import dense
from dictlearn.runs.parts import parts, records
from dictlearn.runs.places import read_config
from dictlearn.runs.tied import refuse_other_data
from dictlearn.runs.trained import Run, Trained, of_run, restore_run
from dictlearn.streams import Stream
from dictlearn.types import Batch

PURSUITS = "pursuits.json"
PASS = 1024
"""Tokens that are encoded at once."""


@dataclass(frozen=True, eq=False)
class Subject:
    """The dictionaries of a run, or dictionaries without a run.

    Args:
        name: its name in tables.
        path: the workdir of the run, or an exported file or folder; None without one.
        given: the dictionaries, if they are not read from `path`.
        setup: a config that replaces the one of the workdir, if the model and the store have moved.
        allow_changed: whether the data may be other than that on which the run was trained.

    Example:
        >>> Subject.of("runs/a").name
        'a'
    """

    name: str
    path: Path | None = None
    given: Sequence[Trained] = ()
    setup: Mapping = field(default_factory=dict)
    allow_changed: bool = False

    @classmethod
    def of(cls, it: "Subject | Trained | str | Path") -> "Subject":
        """The subject of a dictionary or of a path; a subject itself is returned unchanged."""
        if isinstance(it, Subject):
            return it
        if isinstance(it, Trained):
            return cls(it.name, given=[it])
        return cls(Path(it).name, Path(it))

    @functools.cached_property
    def trained(self) -> list[Trained]:
        """The dictionaries of the run in the order of its sweep, or of exported files by name.

        Raises FileNotFoundError if the path has neither.
        """
        if self.given:
            return list(self.given)
        if self.run is not None:
            added = [restore_run(part) for part in parts(self.workdir)[1:]]
            return [one for run in (self.run, *added) for one in of_run(run)]
        path = self.workdir
        files = [path] if path.is_file() else sorted(filter(interop.recognised, path.glob("*")))
        if not files:
            raise FileNotFoundError(
                f"{path} is neither a run nor an exported dictionary; `dictlearn train` and `dictlearn export` "
                "write them."
            )
        return [interop.load(file) for file in files]

    @functools.cached_property
    def run(self) -> Run | None:
        """The run of the workdir; None where the path holds none."""
        is_run = self.path is not None and (self.path / "config.json").exists()
        return restore_run(self.workdir) if is_run else None

    @property
    def only(self) -> Trained:
        """The dictionary of a subject with a single one. Raises ValueError, with their names, for several."""
        if len(self.trained) != 1:
            names = ", ".join(one.name for one in self.trained)
            raise ValueError(
                f"{self.name} has {len(self.trained)} dictionaries, {names}; one is needed."
            )
        return self.trained[0]

    @property
    def workdir(self) -> Path:
        """The path. Raises ValueError for dictionaries without a run."""
        if self.path is None:
            raise ValueError(f"{self.name} has no workdir; this analysis reads a run.")
        return self.path

    @functools.cached_property
    def config(self) -> Mapping:
        """The config of the run."""
        return self.setup or read_config(self.workdir)

    @functools.cached_property
    def metrics(self) -> dict[str, dict]:
        """{name: {"label", "hparams", metric: value, ...}} of `metrics.json`."""
        return records(self.workdir)

    @functools.cached_property
    def pursuits(self) -> dict[str, dict]:
        """The records of the same dictionaries under a pursuit, from `pursuits.json`; empty if not measured."""
        return records(self.workdir, PURSUITS) if (self.workdir / PURSUITS).exists() else {}

    @functools.cached_property
    def lm(self) -> LM:
        """The language model. Raises ValueError for a run without one, and for weights that differ from the
        run's."""
        if not self.config.get("model"):
            raise ValueError(f"{self.name} has no language model; its config has no model.")
        lm = language.load(**self.config["model"])
        found = origin(self.config, lm) or ()
        if len(found) == 1:
            models.sides(found, {str(self.config["model"]["name"]): lm}, self.allow_changed)
        return lm

    @functools.cached_property
    def stream(self) -> Stream:
        """The stream that the run was trained on, with raw activations. Raises ValueError for other data."""
        raw = {**self.config["stream"], "normalise": "none"}
        stream = open_stream({**self.config, "stream": raw})
        if self.run is not None:
            was, now = self.run.data, stream.fingerprint
            refuse_other_data(self.workdir, was, now, self.allow_changed)
        return stream

    def check_data(self) -> None:
        """Raises ValueError for other data than the run was trained on. Callers that read the store themselves
        must call it."""
        _ = self.stream  # an assertion would be gone under `python -O`

    def sample(self, n_tokens: int) -> np.ndarray:
        """Raw activations `[B, D]` of at most `n_tokens` tokens: held-out ones if the stream has them,
        otherwise the first training batches.
        """
        size, stream = self.config["batch_size"], self.stream
        n = -(-n_tokens // size)
        rest = stream.held_out
        batches = stream.batches if rest is None else rest
        n = n if rest is None else min(n, len(rest))
        rows = [np.asarray(cast(Batch, batches[t]).x_BD) for t in range(n)]
        return np.concatenate(rows)[:n_tokens]


def dense_codes(dictionary: Trained, x_BD: np.ndarray) -> np.ndarray:
    """The codes of raw activations, `[B, F]`, encoded in passes of one shape, to compile one program."""
    padded_BD = np.pad(x_BD, ((0, -len(x_BD) % PASS), (0, 0)))
    encode = lambda rows_BD: dense(dictionary.encode(rows_BD), dictionary.module.n_latents)
    parts = [encode(padded_BD[start : start + PASS]) for start in range(0, len(x_BD), PASS)]
    return np.concatenate([np.asarray(part) for part in parts])[: len(x_BD)]


def exactly(n: int, subjects: Sequence[Subject], name: str) -> Sequence[Subject]:
    """The subjects, if there are `n`; else ValueError."""
    if len(subjects) != n:
        raise ValueError(
            f"{name} takes {n} subject(s), not {len(subjects)}. A run, or a folder of dictionaries, is one."
        )
    return subjects


def last(subject: Subject, member: str = "") -> Trained:
    """The last dictionary of the sweep of a member, or of the subject. Raises ValueError for a subject without
    that member."""
    label = lambda one: subject.metrics[one.name]["label"]
    found = [one for one in subject.trained if not member or label(one) == member]
    if not found:
        there = ", ".join(dict.fromkeys(map(label, subject.trained)))
        raise ValueError(f"{subject.name} has no {member=}; there are {there}.")
    return found[-1]
