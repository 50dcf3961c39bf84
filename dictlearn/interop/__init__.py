"""Trained dictionaries as files: this library's own and other libraries', one format a file.

A format is a file of this folder without a leading underscore, found by its name, that says

    SUFFIX                  what its files end in; "" for a folder
    LEAVES                  the leaves of `variables` that it can hold, as "params/W_enc_FD"; None for all
    recognises(path)        whether `path` is one of its files, told by what is in it
    load(path)              the Trained in it; ValueError for a damaged or a foreign one
    save(trained, path)     writes it; ValueError for what it cannot hold

A file comes from anybody: `load` runs no code of it, and checks every array before it is read.
"""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from dictlearn import files
from dictlearn.interop import _layout
from dictlearn.runs.trained import Trained, restore
from dictlearn.runs.workdir import write_json


def names() -> list[str]:
    """The formats there are: the files of this folder."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def format_of(name: str) -> ModuleType:
    """The format `name`. Raises ValueError for an unknown one, listing what there is."""
    if name not in names():
        raise ValueError(f"unknown format {name!r}; there are {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")


def load(path: str | Path) -> Trained:
    """The dictionary in a file or a folder of any format.

    Args:
      path: what `save`, `dictlearn export` or another library wrote.

    Raises:
      FileNotFoundError: if there is nothing.
      ValueError: if no format knows it, or if it is damaged.

    Example:
      trained = interop.load("export/topk_n512_0.npz")
      y_BD = trained.reconstruct(x_BD)
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; `dictlearn export` writes dictionaries.")
    name = recognised(path)
    if name is None:
        raise ValueError(f"{path} is of no known format; there are {', '.join(names())}.")
    try:
        return format_of(name).load(path)
    except ValueError as error:
        raise ValueError(f"{path} is no whole {name} dictionary: {error}") from error


def recognised(path: Path) -> str | None:
    """The format that a file or a folder is of, None if it is of none."""
    return next((name for name in names() if format_of(name).recognises(path)), None)


def save(trained: Trained, path: str | Path, format: str) -> None:
    """Writes a dictionary in a format, whole or not at all.

    Args:
      trained: the dictionary.
      path: the file, or the folder of a format whose SUFFIX is "".
      format: one of `names()`.

    Raises:
      ValueError: for an unknown format, and for a dictionary that it cannot hold, naming what it cannot.

    Example:
      interop.save(dictlearn.restore(workdir)[0], "mine.npz", "npz")
    """
    path, writer = Path(path), format_of(format)
    beyond = (
        []
        if writer.LEAVES is None
        else sorted(_layout.flat(trained.variables).keys() - writer.LEAVES)
    )
    if beyond:
        whole = [name for name in names() if format_of(name).LEAVES is None]
        raise ValueError(
            f"{format} cannot hold {', '.join(beyond)} of {trained.name or type(trained.module).__name__}, "
            f"without which it is another function; use {' or '.join(whole)}."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as half:
        writer.save(trained, half)


def export(workdir: str | Path, format: str, out: str | Path) -> list[Path]:
    """Writes every dictionary of a run, with the normalisation folded into the weights where that can be.

    Args:
      workdir: of the run.
      format: one of `names()`.
      out: folder of the files `NAME{SUFFIX}`, and of `index.json`, which maps each to its hyperparameters,
        what its encoder reads, and the normalisation that is left to be done (`none` where it is folded).

    Returns:
      The paths written.

    Raises:
      ValueError: for an unknown format, and for a dictionary that it cannot hold.
    """
    out, suffix, index = Path(out), format_of(format).SUFFIX, {}
    for trained in map(_folded, restore(workdir)):
        save(trained, out / f"{trained.name}{suffix}", format)
        index[f"{trained.name}{suffix}"] = {
            **trained.hparams,
            "encoder_input": _layout.encoder_input(trained.module),
            "normalisation": trained.norm.kind,
        }
    write_json(out / "index.json", index)
    return [*(out / name for name in index), out / "index.json"]


def _folded(trained: Trained) -> Trained:
    try:
        return trained.folded()
    except ValueError:
        return trained
