"""Similarity of two subjects: two runs, two folders of exported dictionaries, or two folders with a run per
layer.

    runs, exports      for each pair of dictionaries: MMCS both ways, one to one, one to many (ops/cosine.py),
                       and the Jaccard index of their keys if both have keys (ITDA)
    folders of runs    for each pair of layers: the Jaccard index of keys, and CKA, SVCCA and relative
                       representations of the activations that the runs read (_alignment.py); for each of
                       these the score of matching layers by it; and Jaccard of the union of all layers' keys

Source: Leask et al. 2025, section 5, equations 8 to 10; Kornblith et al. 2019 for the score. A key is the
token and the sequence that an atom was. So keys can be compared only if both sides read the same text, cut
into the same sequences. They must also read it in the same order, because which tokens become atoms depends
on the tokens before. A different text is refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from dictlearn import normalise
from dictlearn.analyses import _alignment
from dictlearn.analyses._heat import heat
from dictlearn.analyses._result import Result, Table
from dictlearn.analyses._subject import Subject, exactly
from dictlearn.experiment.stream import open_stream, origin
from dictlearn.ops import cosine
from dictlearn.runs.places import read_config
from dictlearn.runs.trained import Trained
from dictlearn.types import Batch

NEEDS = ("runs",)

SHARED = 0.7
"""The cosine from which atoms count as shared (Paulo & Belrose 2025)."""

N_TOKENS = 4096
"""Tokens of the training stream on which activations are compared."""

TITLES = {
    "jaccard": "Jaccard of keys (ITDA)",
    "cka": "linear CKA",
    "svcca": "SVCCA",
    "relative": "relative representations",
    "mmcs_ab": "MMCS, A in B",
    "mmcs_ba": "MMCS, B in A",
    "one_to_one": "one to one, mean cosine",
}
"""The measures that are drawn."""

Key = tuple[int, int]


class Entry(NamedTuple):
    """A dictionary of one side. keys: None for atoms without keys. text: the text of the keys."""

    name: str
    atoms_FD: np.ndarray
    keys: set[Key] | None
    text: Any


def similarity(subjects: Sequence[Subject]) -> Result:
    """The similarity of the dictionaries, or of the layers, of two subjects.

    Args:
        subjects: two of one kind.

    Returns:
        A Result with {"kind", "a", "b", "names", "measures": {name: [[...]]}, ...}: rows are the dictionaries
        (or layers) of the first subject, columns of the second.

    Raises:
        FileNotFoundError: for a path that is neither a run, nor exported, nor a folder of runs.
        ValueError: unless there are two subjects of one kind and of one text.
    """
    a, b = (subject.workdir for subject in exactly(2, subjects, "similarity"))
    layered = [_is_layered(path) for path in (a, b)]
    if layered[0] != layered[1]:
        one, other = (a, b) if layered[0] else (b, a)
        raise ValueError(f"{one} is a folder of runs and {other} is not; compare like with like.")
    found = _layers(a, b) if layered[0] else _dictionaries(a, b)
    return Result({"a": str(a), "b": str(b), **found}, [_table(found)], [_figure(found)])


def _table(found: Mapping[str, Any]) -> Table:
    """The scores of matched layers, or every measure of every pair of dictionaries."""
    if found["kind"] == "layers":
        return Table("Layers matched", ("measure", "share"), list(found["scores"].items()))
    measures = found["measures"]
    pairs = [
        (a, b, *(rows[i][j] for rows in measures.values()))
        for i, a in enumerate(found["names"][0])
        for j, b in enumerate(found["names"][1])
    ]
    return Table("Dictionaries compared", ("a", "b", *measures), pairs)


def _figure(found: Mapping[str, Any]) -> Figure:
    scores = {
        name: f"\nlayers matched {score:.2f}" for name, score in found.get("scores", {}).items()
    }
    measures = {name: rows for name, rows in found["measures"].items() if name in TITLES}
    panels = {TITLES[name] + scores.get(name, ""): rows for name, rows in measures.items()}
    return heat(found["names"], panels)


def keys(variables: Mapping[str, Any]) -> set[Key] | None:
    """The keys of the atoms of a dictionary.

    Args:
        variables: its variables.

    Returns:
        {(sequence, position)}; None for atoms without keys.
    """
    stats = variables.get("stats", {})
    if "sequence_F" not in stats:
        return None
    columns = [np.asarray(stats[leaf]) for leaf in ("sequence_F", "position_F")]
    columns = [column[: int(stats["n_atoms"])].tolist() for column in columns]
    return set(zip(*columns, strict=True))


def _dictionaries(a: Path, b: Path) -> dict:
    sides = [_entries(path) for path in (a, b)]
    _same_text([entry for side in sides for entry in side])
    pairs = [[_pair(left, right) for right in sides[1]] for left in sides[0]]
    found = dict.fromkeys(name for row in pairs for pair in row for name in pair)
    measures = {name: [[pair.get(name) for pair in row] for row in pairs] for name in found}
    names = [[entry.name for entry in side] for side in sides]
    return {"kind": "dictionaries", "names": names, "measures": measures}


def _pair(a: Entry, b: Entry) -> dict[str, Any]:
    """Every measure of two dictionaries; cosines are None for different widths."""
    found: dict[str, Any] = {}
    if a.keys is not None and b.keys is not None:
        found["jaccard"] = _alignment.jaccard(a.keys, b.keys)
    if a.atoms_FD.shape[1] != b.atoms_FD.shape[1]:
        return found | dict.fromkeys(("mmcs_ab", "mmcs_ba", "one_to_one", "shared"))
    pairs = cosine.one_to_one(a.atoms_FD, b.atoms_FD)
    many_F = cosine.one_to_many(a.atoms_FD, b.atoms_FD, SHARED)
    width = a.atoms_FD.shape[1]
    return found | {
        "mmcs_ab": float(cosine.nearest(a.atoms_FD, b.atoms_FD)[0].mean()),
        "mmcs_ba": float(cosine.nearest(b.atoms_FD, a.atoms_FD)[0].mean()),
        "mmcs_ab_by_chance": cosine.by_chance(len(b.atoms_FD), width),
        "mmcs_ba_by_chance": cosine.by_chance(len(a.atoms_FD), width),
        "one_to_one": float(pairs.cosine_P.mean()),
        "one_to_one_exact": pairs.exact,
        "shared": float((pairs.cosine_P >= SHARED).sum() / len(a.atoms_FD)),
        "one_to_none": float((many_F == 0).mean()),
        "one_to_many": float((many_F > 1).mean()),
    }


def _entries(path: Path) -> list[Entry]:
    """The dictionaries of a run or of exported files."""
    subject = Subject.of(path)
    text = _text(subject.config) if (path / "config.json").exists() else None
    return [_entry(dictionary, text) for dictionary in subject.trained]


def _entry(dictionary: Trained, text: Any) -> Entry:
    """The atoms in the space of the raw activations, without unused ones."""
    params = dictionary.variables["params"]
    if "W_dec_FD" not in params:
        raise ValueError(f"{dictionary.name} has no W_dec_FD; its atoms cannot be compared.")
    atoms_FD, found = np.asarray(params["W_dec_FD"], np.float32), keys(dictionary.variables)
    if found is not None:
        atoms_FD = atoms_FD[: int(dictionary.variables["stats"]["n_atoms"])]
    if dictionary.norm.kind in normalise.AFFINE_KINDS:
        atoms_FD = atoms_FD @ normalise.colouring(dictionary.norm).T
    return Entry(dictionary.name, atoms_FD, found, text)


def _layers(a: Path, b: Path) -> dict:
    runs = [_runs(path) for path in (a, b)]
    names = [[run.name for run in side] for side in runs]
    entries = [[_entries(run)[0] for run in side] for side in runs]
    _same_text([entry for side in entries for entry in side])
    keyed = [[entry.keys for entry in side if entry.keys is not None] for side in entries]
    measures = {}
    found: dict[str, Any] = {"kind": "layers", "names": names}
    if list(map(len, keyed)) == list(map(len, entries)):
        measures["jaccard"] = _matrix(_alignment.jaccard, *keyed)
        found["union_jaccard"] = _alignment.jaccard(*(set().union(*side) for side in keyed))
    rows = _activations([run for side in runs for run in side])
    split = rows[: len(runs[0])], rows[len(runs[0]) :]
    for name, measure in _alignment.MEASURES.items():
        prepared = [[measure.prepare(x_BD) for x_BD in side] for side in split]
        measures[name] = _matrix(measure.compare, *prepared)
    scores = {name: _alignment.matching_score(np.array(rows)) for name, rows in measures.items()}
    return {**found, "n_tokens": len(rows[0]), "measures": measures, "scores": scores}


def _activations(runs: list[Path]) -> list[np.ndarray]:
    """The first tokens that each run was trained on; they must be the same in all runs."""
    found, first = [], None
    for run in runs:
        config = read_config(run)
        stream = open_stream({**config, "stream": {**config["stream"], "keys": True}})
        n = -(-min(N_TOKENS, config["steps"] * config["batch_size"]) // config["batch_size"])
        batches = [stream.batch(step) for step in range(n)]
        where = [np.concatenate(column) for column in zip(*map(_key_columns, batches), strict=True)]
        first = where if first is None else first
        if not all(map(np.array_equal, where, first)):
            raise ValueError(
                f"{run} read other tokens than {runs[0]}, or in another order; train both with the "
                "same seed, batch_size and stream."
            )
        found.append(np.concatenate([batch.x_BD for batch in batches]))
    return found


def _key_columns(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The token of each row, as (sequence, position)."""
    if batch.sequence_B is None or batch.position_B is None:
        raise ValueError(
            "the stream does not say which token a row is, so layers cannot be aligned."
        )
    return np.asarray(batch.sequence_B), np.asarray(batch.position_B)


def _matrix(compare, a, b) -> list[list[float]]:
    return [[compare(left, right) for right in b] for left in a]


def _is_layered(path: Path) -> bool:
    return path.is_dir() and not (path / "checkpoints").is_dir() and bool(_runs(path))


def _runs(path: Path) -> list[Path]:
    """The runs in a folder, `resid.9` before `resid.10`."""
    runs = [folder for folder in path.iterdir() if (folder / "checkpoints").is_dir()]
    number = lambda run: run.suffix[1:].zfill(8)
    return sorted(runs, key=lambda run: (run.stem, number(run)))


def _text(config: Mapping) -> Any:
    """Everything that defines the token of a key."""
    found = origin(config)
    return found[0].text if found else config["stream"]["name"]


def _same_text(entries: list[Entry]) -> None:
    """Raises ValueError for keys of different texts; the keys of an archive do not name their text."""
    keyed = [entry for entry in entries if entry.keys is not None and entry.text is not None]
    for entry in keyed:
        if entry.text != keyed[0].text:
            raise ValueError(
                f"{entry.name} and {keyed[0].name} read different texts ({entry.text}, "
                f"{keyed[0].text}); their keys do not name the same tokens."
            )
