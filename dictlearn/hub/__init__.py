"""Sharing dictionaries on the hub: a release is a folder with dictionaries and a card made from their run.

README.md         the card (hub/card.py)
curves.png        training curves, where the run has a log
config.json       the run's config, where there is a run; of paths, only their last names
NAME/             a dictionary as SAELens' folder, which SAELens and `dictlearn.load` read
NAME.safetensors  a dictionary that SAELens has no architecture for, in our own format
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from dictlearn import interop
from dictlearn.hub import card
from dictlearn.lm.hub import is_hub_name, library, reason
from dictlearn.runs import places
from dictlearn.runs.parts import lines
from dictlearn.runs.trained import Trained, restore
from dictlearn.runs.workdir import write_json

FORMATS = ("saelens", "safetensors")
"""The formats of a release. A dictionary is written in the first that can hold it."""


def release(
    source: str | Path, folder: str | Path, name: str, formats: Sequence[str] = FORMATS
) -> Path:
    """Writes a release.

    Args:
        source: the workdir of a run, whose dictionaries are written in the order of their sweep; or a
            dictionary of any format.
        folder: the folder to write, which must be empty or absent.
        name: the release's name on the hub, "owner/name", for the card.
        formats: formats of `dictlearn.interop.names()`; a dictionary is written in the first that can hold it.

    Returns:
        The folder.

    Raises:
        ValueError: for a folder that is not empty, a malformed name, or a dictionary that none of the formats
            can hold.
        FileNotFoundError: for a source that does not exist.
    """
    folder, source = _own(folder), Path(source)
    _check_name(name)
    is_run = (source / "checkpoints").is_dir()
    found = restore(source) if is_run else [interop.load(source)]
    folder.mkdir(parents=True, exist_ok=True)
    written = [_write(each, folder, formats) for each in found]
    config = places.shared(source) if is_run else None
    curves = is_run and card.curves(found, lines(source), folder / "curves.png")
    if config is not None:
        write_json(folder / "config.json", config)
    text = card.text(name, list(zip(found, written, strict=True)), config, curves)
    (folder / "README.md").write_text(text, "utf-8")
    return folder


def push(
    source: str | Path, name: str, formats: Sequence[str] = FORMATS, private: bool = False
) -> str:
    """Uploads a release. The hub's token is the one that `hf auth login` stored, or HF_TOKEN.

    Args:
        source, formats: as for `release`.
        name: the repository, "owner/name", which is created where it does not exist.
        private: whether a repository that is created is private.

    Returns:
        The address of the repository.

    Raises:
        ImportError: if `huggingface_hub` is not installed; the message has the pip command.
        ValueError, FileNotFoundError: as for `release`.
        RuntimeError: with the hub's reason, where it refuses.
    """
    api = library("share dictionaries").HfApi()
    with tempfile.TemporaryDirectory() as room:
        folder = release(source, Path(room) / "release", name, formats)
        try:
            made = api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=name, folder_path=folder, commit_message="Dictionaries of dictlearn"
            )
        except Exception as error:
            raise RuntimeError(f"The hub refused {name}: {reason(error)}") from error
    return str(made)


def pull(name: str, folder: str | Path) -> Path:
    """Downloads a whole repository of dictionaries to a folder. `dictlearn.load` takes names on the hub too,
    and keeps what it downloads in the hub's cache.

    Args:
        name: the repository, "owner/name".
        folder: the folder, which must be empty or absent.

    Returns:
        The folder.

    Raises:
        ImportError: if `huggingface_hub` is not installed; the message has the pip command.
        ValueError: for a folder that is not empty, or a malformed name.
        FileNotFoundError: where the hub does not have it, with its reason.
    """
    folder = _own(folder)
    _check_name(name)
    api = library("share dictionaries").HfApi()
    try:
        api.snapshot_download(name, local_dir=folder)
    except Exception as error:
        raise FileNotFoundError(f"{name} cannot be pulled: {reason(error)}") from error
    return folder


def _write(trained: Trained, folder: Path, formats: Sequence[str]) -> card.Written:
    """The format of a dictionary, and its path in the folder. Raises ValueError where no format holds it."""
    trained, refusals = interop.folded(trained), []
    label = trained.name or "dictionary"
    for format in formats:
        path = f"{label}{interop.format_of(format).SUFFIX}"
        try:
            interop.save(trained, folder / path, format)
        except ValueError as error:
            refusals.append(f"{format}: {error}")
        else:
            return card.Written(format, path)
    raise ValueError(f"No format of {', '.join(formats)} holds {label}: {' '.join(refusals)}")


def _own(folder: str | Path) -> Path:
    """The folder. Raises ValueError if it is not empty."""
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; dictionaries get a folder of their own.")
    return folder


def _check_name(name: str) -> None:
    if not is_hub_name(name):
        raise ValueError(f"{name!r} is not a name on the hub, which has the form owner/name.")
