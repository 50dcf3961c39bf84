"""Records of files: JSON lines, CSV, Parquet; from a path, or downloaded from the hub.

A value is text, a number or a truth value. Errors name the file, the line or the row, and the column. A dot in
the name of a column leads into a nested record: `translation.en`.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dictlearn.lm import hub, text_csv, text_files
from dictlearn.lm.text_lines import PACKED, is_unicode, lines, pyarrow

_LINES = tuple(f".jsonl{packed}" for packed in PACKED)
_CSV = tuple(f".csv{packed}" for packed in PACKED)
_PARQUET = (".parquet",)
_ROWS = 1024


class Record(dict):
    """{column: value}; `where` names the file and the line. A column that the record lacks is an error."""

    def __init__(self, where: str, values: Any):
        if not isinstance(values, dict):
            raise ValueError(f"{where}: {type(values).__name__}, not a record of columns.")
        super().__init__(values)
        self.where = where

    def value(self, column: str) -> str:
        """The value as text. Raises ValueError for a column that is missing, null or nested."""
        found: Any = self
        for part in [column] if column in self else column.split("."):
            if not isinstance(found, dict) or part not in found:
                there = ", ".join(map(str, self))
                raise ValueError(f"{self.where}: no column {column!r}; there are {there}.")
            found = found[part]
        if isinstance(found, float) and not math.isfinite(found):
            found = None
        if not isinstance(found, str | int | float):
            kind = "null" if found is None else type(found).__name__
            raise ValueError(f"{self.where}, column {column!r}: {kind}, not text or a number.")
        if isinstance(found, str) and not is_unicode(found):
            raise ValueError(f"{self.where}, column {column!r}: half a surrogate pair.")
        return str(found)


def files(source: str | Path, patterns: Sequence[str]) -> list[Path]:
    """The files of a path, or of a data set of the hub ("owner/name"), of which `patterns` are downloaded.

    Raises FileNotFoundError for a path that does not exist, and ValueError for files of other kinds.
    """
    if not Path(source).exists() and hub.is_hub_name(str(source)):
        library = hub.library(f"download the data set {str(source)!r}")
        source = library.snapshot_download(
            str(source), repo_type="dataset", allow_patterns=list(patterns)
        )
    found = text_files.files(source)
    if Path(source).is_dir() and (chosen := [one for one in found if _fits(one, patterns)]):
        found = chosen
    if bad := [one for one in found if not text_files.ends(one, (*_LINES, *_CSV, *_PARQUET))]:
        raise ValueError(f"{bad[0]}: labelled texts are .jsonl, .csv or .parquet files.")
    return found


def _fits(path: Path, patterns: Sequence[str]) -> bool:
    return any(path.match(one) for one in patterns)


def records(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """The records of a file. Only `columns` are read where the format has columns.

    Raises ValueError for a broken file, and ImportError where it needs pyarrow and it is not installed.
    """
    if text_files.ends(path, _PARQUET):
        yield from _parquet(path, columns)
    elif text_files.ends(path, _CSV):
        rows = zip(*(text_csv.rows(path, column) for column in columns), strict=True)
        for n, row in enumerate(rows, start=1):
            yield Record(f"{path}, row {n}", dict(zip(columns, row, strict=True)))
    else:
        for n, line in enumerate(lines(path), start=1):
            if line.strip():
                yield Record(f"{path}, line {n}", _parsed(path, n, line))


def _parsed(path: Path, n: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}, line {n}: not JSON ({error}).") from error


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    parquet, lib = pyarrow("parquet"), pyarrow("lib")
    try:
        with parquet.ParquetFile(path) as file:
            there = file.schema_arrow.names
            tops = [one if one in there else one.partition(".")[0] for one in columns]
            if missing := [one for one in tops if one not in there]:
                have = ", ".join(there)
                raise ValueError(f"{path}: no column {missing[0]!r}; there are {have}.")
            rows = (
                row for batch in file.iter_batches(_ROWS, columns=tops) for row in batch.to_pylist()
            )
            for n, row in enumerate(rows, start=1):
                yield Record(f"{path}, row {n}", row)
    except (lib.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: broken or not Parquet: {error}.") from error
