"""A column of text in a CSV file with a header, separated by commas, semicolons or tabs.

Fields may be quoted and span several lines. A row with another number of fields than the header is an error,
because its text could be from another column.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from dictlearn.lm.text_lines import LONGEST, lines

_PARTED = (",", ";", "\t")


def rows(path: Path, column: str) -> Iterator[str]:
    """The text of each row of a file.

    Args:
        path: the file. The delimiter is the one with which its header holds the column.
        column: the name of the column.

    Returns:
        An iterator of strings; blank lines are skipped.

    Raises:
        ValueError: for a header without the column or with two of that name, for a row of another length and
            for quotes that do not match, naming the file and the line.
    """
    # Python's own bound of a field is 131,072 characters.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    delimiter = _delimiter(path, column)
    reader = csv.reader(lines(path), delimiter=delimiter, strict=True)
    filled = filter(_holds, reader)
    try:
        header = next(filled, None)
        if header is None:
            return
        at = header.index(column)
        for row in filled:
            if len(row) != len(header):
                raise ValueError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, and the header has {len(header)};"
                    " quote fields that hold the delimiter."
                )
            yield row[at]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}.") from error


def _delimiter(path: Path, column: str) -> str:
    """The delimiter with which the header holds the column once; that of an empty file does not matter."""
    headers = {parted: _header(path, parted) for parted in _PARTED}
    for parted, header in headers.items():
        if header.count(column) == 1 or not header:
            return parted
    header = max(headers.values(), key=len)
    number = "more than one" if column in header else "no"
    raise ValueError(
        f"{path}: {number} column {column!r}; the header is {', '.join(header)[:500]}. Name the column of the"
        " text, or write a header as the first line."
    )


def _header(path: Path, delimiter: str) -> list[str]:
    reader = csv.reader(lines(path), delimiter=delimiter)
    try:
        return next(filter(_holds, reader), [])
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}.") from error


def _holds(row: list[str]) -> bool:
    """Whether a row is not of a blank line."""
    return len(row) > 1 or any(one.strip() for one in row)
