"""Text in JSON: one record per line, or a file that is one list of strings or records.

A `.json` file may be either: if its first line is a record, it is read line by line.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dictlearn.lm import text_lines
from dictlearn.lm.text_lines import is_unicode, lines


def records(path: Path, column: str) -> Iterator[str | None]:
    """The text of each line of a file, which holds one record per line.

    Args:
        path: the file.
        column: the field of the text.

    Returns:
        An iterator of strings, None for null.

    Raises:
        ValueError: for a line that is no record with text in that field, naming the file and the line.
    """
    for number, line in enumerate(lines(path), start=1):
        if not line.strip():
            continue
        try:
            yield _field(_parsed(line), column)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error


def whole(path: Path, column: str) -> Iterator[str | None]:
    """The text of each entry of a `.json` file: of a list of strings or records, or of records on lines.

    Args:
        path: the file.
        column: the field of the text.

    Returns:
        An iterator of strings, None for null.

    Raises:
        ValueError: for an entry that is no text, naming the file and the entry or the line, and for a list of
            more than `LONGEST` characters.
    """
    if _is_record(next((line for line in lines(path) if line.strip()), "")):
        yield from records(path, column)
        return
    for number, entry in enumerate(_entries(path), start=1):
        try:
            yield _string(entry) if isinstance(entry, str | None) else _field(entry, column)
        except ValueError as error:
            raise ValueError(f"{path}, entry {number}: {error}") from error


def _is_record(line: str) -> bool:
    try:
        return line.lstrip().startswith("{") and isinstance(_parsed(line), dict)
    except ValueError:
        return False


def _entries(path: Path) -> list[Any]:
    """The entries of the list that a file is; a record alone is a list of one."""
    parts, length = [], 0
    for line in lines(path):
        parts.append(line)
        length += len(line)
        if length > text_lines.LONGEST:
            raise ValueError(
                f"{path}: a list of more than {text_lines.LONGEST:,} characters; write one record per line"
                f" (jq -c '.[]' {path.name} > {path.stem}.jsonl)."
            )
    if not (text := "".join(parts)).strip():
        return []
    try:
        found = _parsed(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return found if isinstance(found, list) else [found]


def _parsed(text: str) -> Any:
    try:
        # Whole numbers are not read, and as int they may have no more than 4300 digits.
        return json.loads(text, parse_int=float)
    except (json.JSONDecodeError, RecursionError) as error:
        where = (
            f" ({error})" if isinstance(error, json.JSONDecodeError) and "\n" in text[:-1] else ""
        )
        raise ValueError(f"not JSON{where}.") from error


def _field(record: Any, column: str) -> str | None:
    """The text in one record; if a field is repeated, the last one counts."""
    if not isinstance(record, dict) or column not in record:
        raise ValueError(f"no {column!r} field.")
    found = record[column]
    if not isinstance(found, str | None):
        kind = "number" if isinstance(found, float) else type(found).__name__
        raise ValueError(f"{column!r} is a {kind}, not a string.")
    return _string(found, repr(column))


def _string(found: str | None, name: str = "the string") -> str | None:
    if not is_unicode(found or ""):
        raise ValueError(f"{name} holds half a surrogate pair.")
    return found
