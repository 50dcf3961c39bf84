"""Trained dictionaries as files for others: one file a dictionary, and an index of them."""

import importlib
import pkgutil
from pathlib import Path

from dictlearn import interop
from dictlearn.runs.trained import restore
from dictlearn.runs.workdir import write_json

FORMATS = sorted(module.name for module in pkgutil.iter_modules(interop.__path__))
"""The formats there are: the files of `interop`."""


def export(workdir: Path, format: str, out: Path) -> list[Path]:
    """Writes every dictionary of a run as `NAME_nN_i.SUFFIX` into `out`, and `index.json`, which maps
    each file to its hyperparameters. Returns the paths written.

    Raises ValueError for an unknown format, listing what there is."""
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; there are {', '.join(FORMATS)}.")
    writer = importlib.import_module(f"dictlearn.interop.{format}")
    dictionaries = restore(workdir)
    out.mkdir(parents=True, exist_ok=True)
    index, paths = {}, []
    for dictionary in dictionaries:
        path = out / f"{dictionary.name}{writer.SUFFIX}"
        writer.save(dictionary, path)
        centred = dictionary.hparams["d_out"] is None
        centred = centred and dictionary.module.subtract_b_dec
        reads = "x - b_dec" if centred else "x"
        index[path.name] = {**dictionary.hparams, "encoder_input": reads}
        paths.append(path)
    write_json(out / "index.json", index)
    return [*paths, out / "index.json"]
