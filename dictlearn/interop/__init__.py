"""Trained dictionaries as files: this library's own format and other libraries' formats, one format a file.

A format is a file of this folder without a leading underscore, found by its name. It holds

    SUFFIX                  the suffix of its files; "" for a folder
    LEAVES                  the leaves of `variables` that it can hold, as "params/W_enc_FD"; None for all
    recognises(path)        whether `path` is one of its files, judged by its content
    load(path)              the Trained in it; raises ValueError for a damaged or a foreign file
    save(trained, path)     writes it; raises ValueError for a dictionary that it cannot hold
    LIBRARY                 optional: the other library, and its code that loads {path} of {repo} on the hub

Files are untrusted: `load` runs no code from them, and checks every array before it reads it.
"""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from dictlearn import files
from dictlearn.experiment import values
from dictlearn.interop import _foreign, _hub, _layout, _torch_file
from dictlearn.runs.owner import owned
from dictlearn.runs.trained import Trained, restore
from dictlearn.runs.workdir import write_json

__all__ = ["load", "names", "save"]


def names() -> list[str]:
    """The names of all formats: the files of this folder.

    Returns:
        The names in alphabetical order.

    Example:
        >>> {"npz", "safetensors"} <= set(names())
        True
    """
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def format_of(name: str) -> ModuleType:
    """The module of a format.

    Args:
        name: a format, of `names()`.

    Returns:
        The module.

    Raises:
        ValueError: for an unknown format; the message lists the known ones.
    """
    if name not in names():
        raise ValueError(f"unknown format {name!r}; the formats are {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")


def load(path: str | Path) -> Trained:
    """Loads the dictionary in a file or a folder of any format.

    Args:
        path: a file or a folder that `save`, `dictlearn export` or another library wrote. Or a name on the hub:
            "owner/name", or "owner/name/folder" for one dictionary of several, with an optional "@revision".

    Returns:
        A Trained.

    Raises:
        FileNotFoundError: if the path does not exist, here or on the hub.
        ValueError: if no format recognises it, or if it is damaged.
        ImportError: for a name on the hub, without `huggingface_hub`.

    Example:
        >>> import tempfile
        >>> import jax
        >>> from dictlearn import dictionaries
        >>> module = dictionaries.make("relu", d_in=4, n_latents=16, sparsity=0.1)
        >>> x_BD = jax.random.normal(jax.random.key(0), (8, 4))
        >>> trained = Trained(module, module.init(jax.random.key(1), x_BD, method="encode"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(trained, f"{folder}/mine.npz", "npz")
        ...     again = load(f"{folder}/mine.npz")
        >>> bool((again.reconstruct(x_BD) == trained.reconstruct(x_BD)).all())
        True
    """
    path = _here(path)
    name = recognised(path)
    if name is None and (lone := _lone(path)):
        path, name = lone, recognised(lone)
    if name is None:
        known = ", ".join(names())
        raise ValueError(f"{path} is not in a known format{_why(path)}; the formats are {known}.")
    try:
        return format_of(name).load(path)
    except ValueError as error:
        raise ValueError(f"{path} is not a complete {name} dictionary: {error}") from error


def _here(path: str | Path) -> Path:
    """The path; for a name on the hub, the path of its download."""
    named = None if Path(path).exists() else _hub.name_of(str(path))
    path = Path(path) if named is None else _hub.fetch(named)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; `dictlearn export` writes dictionaries.")
    return path


def _lone(path: Path) -> Path | None:
    """The only file of arrays in a folder."""
    inside = path.iterdir() if path.is_dir() else ()
    arrays = [each for each in inside if each.suffix in _foreign.ARRAYS]
    return arrays[0] if len(arrays) == 1 else None


def recognised(path: Path) -> str | None:
    """Recognises the format of a file or a folder.

    Args:
        path: the file or the folder.

    Returns:
        The name of the format; None if no format recognises it.
    """
    return next((name for name in names() if format_of(name).recognises(path)), None)


def _why(path: Path) -> str:
    """The fault of a file of arrays that no format recognises; "" if it has none."""
    try:
        if _torch_file.is_torch(path):
            _torch_file.read(path)
        elif path.suffix in _foreign.ARRAYS and path.is_file():
            _foreign.shapes(path)
    except ValueError as error:
        return f": {str(error).rstrip('.')}"
    return ""


def save(trained: Trained, path: str | Path, format: str) -> None:
    """Writes a dictionary in a format, atomically.

    Args:
        trained: the dictionary.
        path: the file, or the folder of a format whose SUFFIX is "".
        format: one of `names()`.

    Raises:
        ValueError: for an unknown format, and for a dictionary that it cannot hold, with the leaves that
            it cannot hold.

    Example:
        >>> import tempfile
        >>> import jax
        >>> from dictlearn import dictionaries
        >>> module = dictionaries.make("relu", d_in=4, n_latents=16, sparsity=0.1)
        >>> x_BD = jax.random.normal(jax.random.key(0), (8, 4))
        >>> trained = Trained(module, module.init(jax.random.key(1), x_BD, method="encode"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(trained, f"{folder}/mine.safetensors", "safetensors")
        ...     print(recognised(Path(f"{folder}/mine.safetensors")))
        safetensors
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
            f"which changes its function; use {' or '.join(whole)}."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as half:
        writer.save(trained, half)


def convert(source: str | Path, target: str | Path, to: str) -> None:
    """Writes the dictionary in a file in another format. If the format cannot hold the normalisation, it is
    folded into the weights, where this is possible.

    Args:
        source: a file or a folder of any format.
        target: the file or the folder to write.
        to: one of `names()`.

    Raises:
        FileNotFoundError: if the source does not exist.
        ValueError: for a source of no format, for an unknown format, and for a dictionary that it cannot hold.
    """
    whole = format_of(to).LEAVES is None
    trained = load(source)
    save(trained if whole else folded(trained), target, to)


def export(workdir: str | Path, format: str, out: str | Path) -> list[Path]:
    """Writes every dictionary of a run, with the normalisation folded into the weights where this is
    possible.

    Args:
        workdir: the workdir of the run.
        format: one of `names()`.
        out: the folder of the files `NAME{SUFFIX}`, and of `index.json`, which maps each file to its
            hyperparameters, the input of its encoder, and the normalisation to apply before it (`none` where it
            is folded).

    Returns:
        The paths written.

    Raises:
        ValueError: for an unknown format, and for a dictionary that it cannot hold.
        InUse: while another process exports to the folder.
    """
    out, suffix, index = Path(out), format_of(format).SUFFIX, {}
    dictionaries = restore(workdir)
    with owned(out, "dictlearn export"):
        for trained in map(folded, dictionaries):
            save(trained, out / f"{trained.name}{suffix}", format)
            index[f"{trained.name}{suffix}"] = {
                **values.to_json(trained.hparams, trained.name),
                "encoder_input": _layout.encoder_input(trained.module),
                "normalisation": trained.norm.kind,
            }
        write_json(out / "index.json", index)
    return [*(out / name for name in index), out / "index.json"]


def library(format: str) -> tuple[str, str] | None:
    """The library that loads a format from the hub.

    Args:
        format: one of `names()`.

    Returns:
        (its title, the code with {repo} and {path}); None if no other library loads the format from the hub.
    """
    return vars(format_of(format)).get("LIBRARY")


def folded(trained: Trained) -> Trained:
    """The dictionary with its normalisation folded into the weights, where this is possible.

    Args:
        trained: the dictionary.

    Returns:
        The same function; `trained` itself where its normalisation cannot be folded.
    """
    try:
        return trained.folded()
    except ValueError:
        return trained
