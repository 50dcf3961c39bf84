"""A column of text in a Parquet or Arrow file, read with pyarrow.

Strings may be long (`large_string`), views, categories (dictionary-encoded) or run-length encoded. Every batch
is validated before it is read, so that broken offsets are an error.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dictlearn.lm.text_lines import pyarrow

_MAGIC = b"ARROW1"
_STRINGS = ("string", "large_string", "string_view", "null")
_ROWS = 1024


def parquet(path: Path, column: str) -> Iterator[str | None]:
    """The values of a column of text in a Parquet file.

    Args:
        path: the file.
        column: the name of the column.

    Returns:
        An iterator of strings, None for null.

    Raises:
        ValueError: for a broken file or a column that is not text, naming the file.
    """
    parquet, lib = pyarrow("parquet"), pyarrow("lib")
    try:
        with parquet.ParquetFile(path) as file:
            _check_column(path, file.schema_arrow, column)
            yield from _strings(path, file.iter_batches(_ROWS, columns=[column]), column)
    except (lib.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: broken or not Parquet: {error}.") from error


def arrow(path: Path, column: str) -> Iterator[str | None]:
    """The values of a column of text in an Arrow file or stream.

    Args:
        path: the file.
        column: the name of the column.

    Returns:
        An iterator of strings, None for null.

    Raises:
        ValueError: as `parquet` does.
    """
    ipc, lib = pyarrow("ipc"), pyarrow("lib")
    try:
        with lib.memory_map(str(path), "r") as mapped:
            whole = mapped.read(len(_MAGIC)) == _MAGIC
            mapped.seek(0)
            reader = ipc.open_file(mapped) if whole else ipc.open_stream(mapped)
            _check_column(path, reader.schema, column)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if whole else reader
            yield from _strings(path, batches, column)
    except (lib.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: broken or not Arrow: {error}.") from error


def _strings(path: Path, batches: Iterable[Any], column: str) -> Iterator[str | None]:
    invalid = pyarrow("lib").ArrowInvalid
    row = 0
    for batch in batches:
        values = batch.column(batch.schema.names.index(column))
        try:
            values.validate(full=True)
        except invalid as error:
            last = row + len(values)
            raise ValueError(f"{path}, rows {row + 1} to {last}: {error}.") from error
        yield from values.to_pylist()
        row += len(values)


def _check_column(path: Path, schema: Any, column: str) -> None:
    if schema.names.count(column) != 1:
        number = "no" if column not in schema.names else "more than one"
        raise ValueError(f"{path}: {number} column {column!r}; there is {', '.join(schema.names)}.")
    kind = schema.field(column).type
    types = pyarrow("types")
    coded = types.is_dictionary(kind) or types.is_run_end_encoded(kind)
    if str(kind.value_type if coded else kind) not in _STRINGS:
        raise ValueError(f"{path}: column {column!r} is of type {kind}, not string.")
