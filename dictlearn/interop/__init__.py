"""Trained dictionaries as files: this library's own format and other libraries' formats, one format a file.

A format is a file of this folder without a leading underscore, found by its name. It holds

    SUFFIX                  the suffix of its files; "" for a folder
    LEAVES                  the leaves of `variables` that it can hold, as "params/W_enc_FD"; None for all
    recognises(path)        whether `path` is one of its files, judged by its content
    load(path)              the Trained in it; raises ValueError for a damaged or a foreign file
    save(trained, path)     writes it; raises ValueError for a dictionary that it cannot hold
    LIBRARY                 optional: the other library, and its code that loads {path} of {repo} on the hub
    save_all(trained, path) optional: writes several into the folder `path`, which the library reads as one

Files are untrusted: `load` runs no code from them, and checks every array before it reads it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from dictlearn import files
from dictlearn.experiment import values
from dictlearn.interop import _find, _layout
from dictlearn.interop._find import format_of, names
from dictlearn.interop._find import library as library
from dictlearn.interop._find import recognised as recognised
from dictlearn.runs.by_layer import by_layer
from dictlearn.runs.owner import owned
from dictlearn.runs.trained import Trained, restore
from dictlearn.runs.workdir import write_json

__all__ = ["load", "load_all", "names", "save", "save_all"]


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
    return _read(*_find.one(_find.here(path)))


def _read(path: Path, name: str | None) -> Trained:
    """The dictionary of a path, by the format that recognises it."""
    if name is None:
        raise ValueError(_find.unknown(path))
    try:
        return format_of(name).load(path)
    except ValueError as error:
        raise ValueError(f"{path} is not a complete {name} dictionary: {error}") from error


def load_all(path: str | Path) -> dict[str, Trained]:
    """Loads every dictionary in a folder and the folders in it: of an export, a release, a transcoder set.

    Args:
        path: a folder on this machine, or a single dictionary.

    Returns:
        The dictionaries by their path in the folder without a suffix ("layer_0"), numbers in their order.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if there is none, or if one is damaged.

    Example:
        >>> load_all("/nowhere/set")
        Traceback (most recent call last):
        FileNotFoundError: /nowhere/set does not exist; `dictlearn export` writes dictionaries.
    """
    path = _find.here(path)
    found = {"/".join(one.relative_to(path).parts): (one, name) for one, name in _find.every(path)}
    if not found:
        raise ValueError(_find.unknown(path))
    suffixes = tuple(format_of(name).SUFFIX for name in names())
    plain = lambda name: next(
        (name.removesuffix(s) for s in suffixes if s and name.endswith(s)), name
    )
    return {plain(key) or one[0].stem: _read(*one) for key, one in found.items()}


def save(trained: Trained, path: str | Path, format: str) -> None:
    """Writes a dictionary in a format, atomically.

    Args:
        trained: the dictionary. A set of transcoders is written layer by layer, as `save_all` does, in a format
            that cannot hold it whole.
        path: the file, or the folder of a format whose SUFFIX is "", and of a set.
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
    pieces = _pieces(trained, format)
    if len(pieces) > 1:
        save_all(pieces, path, format)
    else:
        _save(trained, Path(path), format)


def _save(trained: Trained, path: Path, format: str) -> None:
    _check_leaves(trained, format)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as half:
        format_of(format).save(trained, half)


def _pieces(trained: Trained, format: str) -> list[Trained]:
    """The dictionaries that a format has for one: the layers of a set, where it cannot hold the set and the set
    says where each layer is."""
    n = len(trained.module.by_layer(trained.variables))
    named = all(len(site.tap) == len(site.target) == n for site in trained.sites)
    if format_of(format).LEAVES is None or not (n and named):
        return [trained]
    return [folded(one) for one in by_layer(trained)]


def save_all(dictionaries: Sequence[Trained], path: str | Path, format: str) -> None:
    """Writes several dictionaries into a folder, atomically: each under its own name, or as what the format has
    for several, such as circuit-tracer's transcoder sets.

    Args:
        dictionaries: the dictionaries.
        path: the folder, replaced as a whole.
        format: one of `names()`.

    Raises:
        ValueError: for an unknown format, for a dictionary that it cannot hold, and for two of one name.

    Example:
        >>> import tempfile
        >>> import jax
        >>> from dictlearn import dictionaries
        >>> module = dictionaries.make("relu", d_in=4, n_latents=16, sparsity=0.1)
        >>> x_BD = jax.random.normal(jax.random.key(0), (8, 4))
        >>> leaves = module.init(jax.random.key(1), x_BD, method="encode")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_all([Trained(module, leaves, name=name) for name in "ab"], f"{folder}/two", "npz")
        ...     sorted(load_all(f"{folder}/two"))
        ['a', 'b']
    """
    path, writer = Path(path), format_of(format)
    for trained in dictionaries:
        _check_leaves(trained, format)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as half:
        half.mkdir()
        vars(writer).get("save_all", _each(writer))(dictionaries, half)


def _each(writer: ModuleType) -> Callable[[Sequence[Trained], Path], None]:
    """Writes dictionaries under their own names."""

    def save_all(dictionaries: Sequence[Trained], path: Path) -> None:
        for trained in dictionaries:
            one = path / f"{trained.name}{writer.SUFFIX}"
            if one.exists() or one.parent != path:
                raise ValueError(f"{trained.name!r} is no name, or that of two dictionaries.")
            writer.save(trained, one)

    return save_all


def _check_leaves(trained: Trained, format: str) -> None:
    """Raises ValueError for leaves that a format does not know."""
    known = format_of(format).LEAVES
    beyond = [] if known is None else sorted(_layout.flat(trained.variables).keys() - known)
    if beyond:
        whole = [name for name in names() if format_of(name).LEAVES is None]
        raise ValueError(
            f"{format} cannot hold {', '.join(beyond)} of {trained.name or type(trained.module).__name__}, "
            f"which changes its function; use {' or '.join(whole)}."
        )


def convert(source: str | Path, target: str | Path, to: str) -> None:
    """Writes the dictionary in a file, or all in a folder, in another format. If the format cannot hold a
    normalisation, it is folded into the weights, where this is possible.

    Args:
        source: a file or a folder of any format, or a folder of several (`load_all`).
        target: the file or the folder to write; for several, the folder of `save_all`.
        to: one of `names()`.

    Raises:
        FileNotFoundError: if the source does not exist.
        ValueError: for a source of no format, for an unknown format, and for a dictionary that it cannot hold.
    """
    fold = folded if format_of(to).LEAVES is not None else lambda trained: trained
    path, name = _find.one(_find.here(source))
    if name is None and path.is_dir():
        save_all([fold(trained) for trained in load_all(path).values()], target, to)
    else:
        save(fold(_read(path, name)), target, to)


def export(workdir: str | Path, format: str, out: str | Path) -> list[Path]:
    """Writes every dictionary of a run, with the normalisation folded into the weights where this is
    possible.

    Args:
        workdir: the workdir of the run.
        format: one of `names()`.
        out: the folder of the files `NAME{SUFFIX}`, or of the folder NAME of a set (`save`), and of
            `index.json`, which maps each to its hyperparameters, the input of its encoder, and the
            normalisation to apply before it (`none` where it is folded).

    Returns:
        The paths written.

    Raises:
        ValueError: for an unknown format, and for a dictionary that it cannot hold.
        InUse: while another process exports to the folder.
    """
    out, suffix, index = Path(out), format_of(format).SUFFIX, {}
    with owned(out, "dictlearn export"):
        for trained in map(folded, restore(workdir)):
            first, *others = _pieces(trained, format)
            save(trained, out / (name := trained.name + suffix * (not others)), format)
            index[name] = {
                **values.to_json(trained.hparams, trained.name),
                "encoder_input": _layout.encoder_input(first.module),
                "normalisation": first.norm.kind,
            }
        write_json(out / "index.json", index)
    return [*(out / name for name in index), out / "index.json"]


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
