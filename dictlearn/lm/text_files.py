"""Files of text, read one document at a time: plain text, JSON lines, Parquet, datasets on disk.

A file is not trusted: what it says is parsed, never executed, and a name that an index holds must
stay inside the index's folder. Whatever cannot be read is a ValueError that names the file and,
where there is one, the line or row.
"""

import gzip
import importlib
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

LINES = (".jsonl", ".jsonl.gz")
TABLES = (".parquet",)
PLAIN = (".txt",)
TOKENS = (".npy", ".npz", ".safetensors")
"""The endings of token arrays, which `text_tokens` reads."""
KNOWN = (*PLAIN, *LINES, *TABLES, *TOKENS)

_STATE, _DICT = "state.json", "dataset_dict.json"
_MAGIC = b"ARROW1"


def is_dataset(source: str | Path) -> bool:
    """True for a folder that `datasets.Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    return any((Path(source) / name).is_file() for name in (_STATE, _DICT))


def files(source: str | Path) -> list[Path]:
    """The files that a path, a folder or a glob stands for, sorted by name.

    A folder is searched with its subfolders, for files with an ending of `KNOWN`; a pattern (with
    `*`, `?` or `[`) that names others is refused. Raises ValueError where nothing is found, and
    FileNotFoundError for a file that is not there."""
    path = Path(source)
    if path.is_dir():
        found = sorted(one for one in path.rglob("*") if one.name.endswith(KNOWN))
    elif any(mark in str(source) for mark in "*?[") and not path.exists():
        root = Path(path.anchor or ".")
        found = sorted(root.glob(str(path.relative_to(path.anchor))))
    else:
        found = [path]
    bad = next((one for one in found if not one.name.endswith(KNOWN)), None)
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


def texts(source: str | Path, column: str, split: str | None) -> Iterator[str]:
    """The documents of a source other than "wiki", in its order; the empty ones left out.

    `column` and `split` are as in `text.documents`."""
    if is_dataset(source):
        found = _dataset(_part(Path(source), split), column)
    else:
        if split is not None:
            raise ValueError(f"{split=}, but {str(source)!r} is no saved dataset with splits.")
        paths = files(source)
        # A text file alone is a corpus; among others it is a document.
        paragraphs = not Path(source).is_dir() and paths == [Path(source)]
        found = (text for path in paths for text in _file(path, column, paragraphs))
    return (text for text in found if text and not text.isspace())


def _file(path: Path, column: str, paragraphs: bool) -> Iterable[str | None]:
    if path.name.endswith(LINES):
        return _lines(path, column)
    if path.name.endswith(TABLES):
        return _parquet(path, column)
    if path.name.endswith(TOKENS):
        raise ValueError(
            f"{path}: holds tokens, not text; `sequences` reads it, `documents` cannot."
        )
    return _paragraphs(path) if paragraphs else [_plain(path)]


def _plain(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8.") from error


def _paragraphs(path: Path) -> Iterator[str]:
    """The pieces of a text file that blank lines part."""
    lines: list[str] = []
    for line in _utf8(path):
        if line.strip("\n"):
            lines.append(line)
        else:
            yield "".join(lines).strip()
            lines = []
    yield "".join(lines).strip()


def _utf8(path: Path) -> Iterator[str]:
    """The lines of a file, gzipped where its name says so, each with its end."""
    number = 1
    with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as file:
        try:
            for line in file:
                yield line.decode("utf-8").replace("\r\n", "\n")
                number += 1
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, line {number}: not UTF-8.") from error
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}, line {number}: broken gzip: {error}.") from error


def _lines(path: Path, column: str) -> Iterator[str | None]:
    for number, line in enumerate(_utf8(path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: not JSON.") from error
        if not isinstance(record, dict) or column not in record:
            raise ValueError(f"{path}, line {number}: no {column!r} field.")
        if not isinstance(record[column], str | None):
            kind = type(record[column]).__name__
            raise ValueError(f"{path}, line {number}: {column!r} is a {kind}, not a string.")
        if not _is_unicode(record[column] or ""):
            raise ValueError(f"{path}, line {number}: {column!r} holds half a surrogate pair.")
        yield record[column]


def _is_unicode(text: str) -> bool:
    """False for a string that UTF-8 cannot hold, which JSON's escapes can."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _pyarrow(module: str) -> Any:
    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ImportError as error:
        raise ImportError(
            "Parquet files and saved datasets are read by pyarrow: pip install pyarrow"
        ) from error


def _parquet(path: Path, column: str) -> Iterator[str | None]:
    parquet, lib = _pyarrow("parquet"), _pyarrow("lib")
    try:
        file = parquet.ParquetFile(path)
    except (lib.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a Parquet file: {error}.") from error
    with file:
        _check_column(path, file.schema_arrow, column)
        try:
            for batch in file.iter_batches(batch_size=1024, columns=[column]):
                yield from batch.column(0).to_pylist()
        except (lib.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path}: broken Parquet: {error}.") from error


def _check_column(path: Path, schema: Any, column: str) -> None:
    if column not in schema.names:
        raise ValueError(f"{path}: no column {column!r}; there is {', '.join(schema.names)}.")
    kind = schema.field(column).type
    if str(kind) not in ("string", "large_string", "string_view"):
        raise ValueError(f"{path}: column {column!r} is of type {kind}, not string.")


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: not JSON.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: not a JSON object.")
    return found


def _inside(index: Path, name: Any) -> Path:
    """The path of `name`, which the file `index` says lies beside it."""
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
    """The documents of a folder written by `Dataset.save_to_disk`: Arrow files that a list names."""
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
        yield from _arrow(_inside(index, one.get("filename")), column)


def _arrow(path: Path, column: str) -> Iterator[str | None]:
    ipc, lib = _pyarrow("ipc"), _pyarrow("lib")
    try:
        with lib.memory_map(str(path), "r") as mapped:
            whole = mapped.read(len(_MAGIC)) == _MAGIC
            mapped.seek(0)
            reader = ipc.open_file(mapped) if whole else ipc.open_stream(mapped)
            _check_column(path, reader.schema, column)
            at = reader.schema.names.index(column)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if whole else reader
            for batch in batches:
                yield from batch.column(at).to_pylist()
    except (lib.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not an Arrow file: {error}.") from error
