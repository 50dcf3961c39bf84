"""Files of text, read one document at a time: plain text, JSON, CSV, Parquet, Arrow, datasets on disk.

Every source of text is read here; `text_lines`, `text_json`, `text_csv` and `text_tables` know the formats.
Files are not trusted: their content is parsed and never executed, and a name in an index must stay inside the
folder of the index. A file that cannot be read is a ValueError that names the file and, where possible, the
line or the row.
"""

import fnmatch
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dictlearn.lm import text_csv, text_json
from dictlearn.lm.text_lines import PACKED, lines
from dictlearn.lm.text_tables import arrow, parquet

PLAIN = tuple(f".txt{packed}" for packed in PACKED)
_LINES, _JSON, _CSV = (
    tuple(f"{ending}{packed}" for packed in PACKED) for ending in (".jsonl", ".json", ".csv")
)
_PARQUET, _ARROW = (".parquet",), (".arrow", ".feather")
TOKENS = (".npy", ".npz", ".safetensors")
"""The endings of token arrays, which `text_tokens` reads."""
_KINDS = ((*PLAIN, *_LINES, *_PARQUET, *TOKENS), _ARROW, _CSV, _JSON)
"""The kinds of files in a folder, in order of preference. Only the first kind present is read: next to it, the
other kinds describe a corpus."""
KNOWN = tuple(ending for kind in _KINDS for ending in kind)
_CACHED = "cache-"
"""How the names of the files begin in which `datasets` keeps what was computed from others of the folder."""

_STATE, _DICT = "state.json", "dataset_dict.json"


def is_dataset(source: str | Path) -> bool:
    """Whether a folder was written by `save_to_disk` of `datasets.Dataset` or `DatasetDict`.

    Args:
        source: a path.

    Returns:
        True for such a folder.
    """
    return any((Path(source) / name).is_file() for name in (_STATE, _DICT))


def files(source: str | Path) -> list[Path]:
    """The files of a path, a folder or a glob, sorted by name.

    A folder is searched with its subfolders for text, JSON lines, Parquet and tokens; if there is none, for
    Arrow, then for CSV, then for JSON. A pattern has `*`, `?` or `[`. Hidden files and folders (a leading dot)
    are skipped unless the pattern names them. Raises ValueError if nothing is found or a pattern matches other
    suffixes, and FileNotFoundError for a file that does not exist.
    """
    path = Path(source)
    if path.is_dir():
        found = next(filter(None, (_within(path, kind) for kind in _KINDS)), [])
    elif any(mark in str(source) for mark in "*?[") and not path.exists():
        root = Path(path.anchor or ".")
        matched = root.glob(str(path.relative_to(path.anchor)))
        found = sorted(one for one in matched if not _hidden(one, path))
    else:
        found = [path]
    bad = next((one for one in found if not ends(one, KNOWN)), None)
    if bad is not None or not found:
        problem = "Unknown text source" if found else "Nothing to read in text source"
        raise ValueError(
            f"{problem} {str(bad or source)!r}; known: 'wiki', a folder of a saved dataset, and a"
            f" file, a folder or a pattern of files ending in {', '.join(KNOWN)}."
        )
    for one in found:
        if not one.is_file():
            raise FileNotFoundError(f"No file {str(one)!r}.")
    return found


def _within(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """The files of a folder with these suffixes that are neither hidden nor a cache's."""
    known = (one for one in folder.rglob("*") if ends(one, endings) and not one.is_dir())
    shown = (one for one in known if not _hidden(one.relative_to(folder), Path()))
    return sorted(one for one in shown if not (ends(one, _ARROW) and one.name.startswith(_CACHED)))


def ends(path: Path, endings: tuple[str, ...]) -> bool:
    """Whether the name of a file ends in one of these suffixes, in upper or lower case.

    Args:
        path: the file.
        endings: the suffixes.

    Returns:
        True if it does.
    """
    return path.name.lower().endswith(endings)


def _hidden(path: Path, pattern: Path) -> bool:
    """Whether a part of the path begins with a dot where the pattern does not."""
    asked = [part for part in pattern.parts if part.startswith(".")]
    hidden = (part for part in path.parts if part.startswith(".") and part != "..")
    return any(not any(fnmatch.fnmatch(part, one) for one in asked) for part in hidden)


def texts(source: str | Path, column: str, split: str | None) -> Iterator[str]:
    """The documents of any source except "wiki", in its order, without the empty ones.

    Args:
        source, column, split: as in `text.documents`.

    Returns:
        An iterator of documents.
    """
    if is_dataset(source):
        found = _dataset(_part(Path(source), split), column)
    else:
        if split is not None:
            raise ValueError(f"{split=}, but {str(source)!r} is not a saved dataset with splits.")
        paths = files(source)
        # A single text file is a corpus; among others it is a document.
        paragraphs = not Path(source).is_dir() and paths == [Path(source)]
        found = (text for path in paths for text in _file(path, column, paragraphs))
    return (text for text in found if text and not text.isspace())


def _file(path: Path, column: str, paragraphs: bool) -> Iterable[str | None]:
    readers = {
        _LINES: text_json.records,
        _JSON: text_json.whole,
        _CSV: text_csv.rows,
        _PARQUET: parquet,
        _ARROW: arrow,
    }
    for endings, read in readers.items():
        if ends(path, endings):
            return read(path, column)
    if ends(path, TOKENS):
        raise ValueError(
            f"{path}: holds tokens, not text; `sequences` reads it, `documents` cannot."
        )
    return _paragraphs(path) if paragraphs else [_plain(path)]


def _plain(path: Path) -> str:
    return "".join(lines(path)).strip()


def _paragraphs(path: Path) -> Iterator[str]:
    """The parts of a text file between blank lines; a line of spaces and tabs is blank."""
    for blank, piece in itertools.groupby(lines(path), lambda line: not line.strip()):
        if not blank:
            yield "".join(piece).strip()


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not JSON.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: not a JSON object.")
    return found


def _inside(index: Path, name: Any) -> Path:
    """The path of `name`, which must be in the folder of the file `index` that names it."""
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0:"):
        raise ValueError(f"{index}: {name!r} is not the name of something in this folder.")
    return index.parent / name


def _part(folder: Path, split: str | None) -> Path:
    """The folder of one split."""
    index = folder / _DICT
    if not index.is_file():
        if split is not None:
            raise ValueError(f"{split=}, but {folder} is one dataset, without splits.")
        return folder
    splits = _json(index).get("splits")
    if not isinstance(splits, list) or split not in splits:
        raise ValueError(f"{folder} has the splits {splits}, and {split=}; name one of them.")
    return _inside(index, split)


def _dataset(folder: Path, column: str) -> Iterator[str | None]:
    """The documents of a folder written by `Dataset.save_to_disk`: a list of Arrow files."""
    index = folder / _STATE
    if not index.is_file():
        raise ValueError(f"{folder}: no {_STATE}; not a dataset that save_to_disk wrote.")
    state = _json(index)
    named = state.get("_data_files")
    if not isinstance(named, list) or not all(isinstance(one, dict) for one in named):
        raise ValueError(f"{index}: no list of '_data_files'.")
    if state.get("_indices_data_files"):
        raise ValueError(f"{index}: rows are picked by an index; save it after flatten_indices().")
    for one in named:
        yield from arrow(_inside(index, one.get("filename")), column)
