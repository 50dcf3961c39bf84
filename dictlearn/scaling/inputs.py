"""What laws read from runs on disk: the inputs by name, and one row for each dictionary.

A row has the workdir, the name of the dictionary, its seed, its loss (by default `fvu`, the normalised mean
squared error on held-out tokens) and, under the keys of `INPUTS`, what the law needs. The losses of several
workdirs compare only if their runs have the same model, taps and text.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from dictlearn.runs.parts import parts
from dictlearn.runs.workdir import logged, read_records
from dictlearn.scaling.law import Law

LOSS = "fvu"
"""The metric that is fitted unless another is named."""

FLOPS = 6
"""FLOPs of a weight on a token: a multiplication and an addition, forward and twice backward."""

Tokens: TypeAlias = Callable[[], float | None]
"""Reads the tokens that a dictionary was trained on; None without a log of it."""


class Input(NamedTuple):
    """key: its name in rows. symbol, title, label: its letter, and its words in figures. read: its value from
    the hyperparameters of a dictionary and of what its run was trained on; None where either does not have it.
    """

    key: str
    symbol: str
    title: str
    label: str
    read: Callable[[Mapping, Tokens], float | None]


def _own(hparams: Mapping) -> Mapping:
    """The hyperparameters of the dictionary itself; none in a record that was damaged."""
    own = hparams.get("dictionary")
    return own if isinstance(own, Mapping) else {}


def _compute(hparams: Mapping, tokens: Tokens) -> float | None:
    """Training FLOPs of a dense encoder and decoder; 12 d n T where inputs and outputs have d dimensions."""
    own, trained = _own(hparams), tokens()
    if trained is None or not {"d_in", "n_latents"} <= own.keys():
        return None
    width = own["d_in"] + (own.get("d_out") or own["d_in"])
    return float(FLOPS * width * own["n_latents"] * trained)


INPUTS = {
    "n": Input(
        "n_latents", "n", "Width", "latents, $n$", lambda hparams, _: _own(hparams).get("n_latents")
    ),
    "k": Input(
        "k",
        "k",
        "Sparsity",
        "active latents per token, $k$",
        lambda hparams, _: _own(hparams).get("k"),
    ),
    "tokens": Input("tokens", "T", "Tokens", "tokens of training, $T$", lambda _, tokens: tokens()),
    "compute": Input("compute", "C", "Compute", "FLOPs of training, $C$", _compute),
}
"""By the names in `Law.inputs` and `Law.fixed`."""


def rows(
    law: Law,
    workdirs: Sequence[Path],
    at: Mapping[str, float] | None = None,
    loss: str = LOSS,
) -> list[dict]:
    """The runs of a law: one row for each dictionary of the workdirs.

    Args:
        law: the law.
        workdirs: the workdirs.
        at: {input: value}; only dictionaries with these values are read.
        loss: the metric of metrics.json that is the loss.

    Returns:
        The rows, in the order of the workdirs.

    Raises:
        ValueError: for an unknown input in `at`, a value that no dictionary has, a dictionary without what the
            law needs, and dictionaries that differ in an input that the law holds fixed.
    """
    at = at or {}
    if unknown := sorted(at.keys() - INPUTS.keys()):
        raise ValueError(f"there is no input {unknown[0]!r}; the inputs are {', '.join(INPUTS)}.")
    needed = dict.fromkeys((*law.inputs, *law.fixed, *at))
    # A published dictionary has no log; its tokens are compared only if the law reads them.
    needed = {name: name != "tokens" or name in (*law.inputs, *at) for name in needed}
    every = [part for workdir in workdirs for part in parts(workdir)]
    found = [row for part in every for row in _of_workdir(law, part, needed, loss)]
    for name, value in at.items():
        key = INPUTS[name].key
        there = sorted({row[key] for row in found})
        found = [row for row in found if row[key] == value]
        if not found:
            raise ValueError(
                f"no run has {key}={value:.12g}; there are {', '.join(f'{one:.12g}' for one in there)}."
            )
    _same(law, found)
    return _best(law, found) if law.frontier else found


def _of_workdir(law: Law, workdir: Path, needed: Mapping[str, bool], loss: str) -> list[dict]:
    """The rows of a workdir. needed: the inputs, and whether a dictionary without it is refused."""

    @functools.cache
    def last() -> dict[str, float]:
        """The tokens of the last line of each dictionary: those of a grid may differ in their lengths."""
        log = logged(workdir / "metrics.jsonl")
        return {name: line["tokens"] for line in log for name in line if "tokens" in line}

    found = []
    for name, record in read_records(workdir / "metrics.json").items():
        hparams = record["hparams"]
        row: dict[str, Any] = {
            "workdir": str(workdir),
            "dictionary": name,
            "seed": hparams.get("seed"),
        }
        tokens = lambda name=name: last().get(name)
        row |= {INPUTS[one].key: INPUTS[one].read(hparams, tokens) for one in needed}
        row["loss"] = record.get(loss)
        optional = {"seed", *(INPUTS[one].key for one in needed if not needed[one])}
        for key, value in row.items():
            if value is None and key not in optional:
                raise ValueError(_lacks(law, name, workdir, key, loss))
        found.append(row)
    return found


def _lacks(law: Law, name: str, workdir: Path, key: str, loss: str) -> str:
    """What to say of a dictionary without what the law needs."""
    way = {
        "loss": f"`dictlearn eval --workdir={workdir}` measures it, if a meter of the run has it",
        "tokens": "it is read from the log of the training, metrics.jsonl",
        "compute": "it is computed from n_latents and the log of the training, metrics.jsonl",
    }
    return (
        f"{name} of {workdir} has no {loss if key == 'loss' else key}, which the law {law.name} needs: "
        f"{way.get(key, 'fit a law without it, or leave the run out')}."
    )


def _same(law: Law, found: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError for runs that differ in an input that the law holds fixed."""
    for name in law.fixed:
        key = INPUTS[name].key
        values = sorted({row[key] for row in found} - {None})
        if len(values) > 1:
            raise ValueError(
                f"the runs have {key} of {', '.join(f'{one:.12g}' for one in values)}, and the law "
                f"{law.name} is of one: choose with --at={name}={values[-1]:.12g}."
            )


def _best(law: Law, found: Sequence[dict]) -> list[dict]:
    """The runs that no run of at most the same first input beats."""
    key = INPUTS[law.inputs[0]].key
    beaten = lambda row: any(o[key] <= row[key] and o["loss"] < row["loss"] for o in found)
    return [row for row in found if not beaten(row)]
