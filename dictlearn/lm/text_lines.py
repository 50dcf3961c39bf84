"""The lines of a text file: plain, gzipped or zstandard, with or without a byte order mark, with any line ends.

A file is UTF-8, or the encoding of its byte order mark (UTF-16, UTF-32). Bytes that are not text are a
ValueError that names the file and the line. No encoding is guessed and no byte is replaced, because text in a
wrong encoding would be noise for training.
"""

import codecs
import gzip
import importlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKED = ("", ".gz", ".zst")
"""What may follow the ending of a text file."""
LONGEST = 2**28
"""The most characters in a line, so that a file without line ends does not fill the memory."""

# UTF-32 comes first, because its mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_MARK = "\ufeff"


def lines(path: Path) -> Iterator[str]:
    r"""The lines of a file, each with its end as "\n".

    Args:
        path: the file.

    Returns:
        An iterator of lines.

    Raises:
        ValueError: for bytes that are not of its encoding, for NUL, for a line longer than `LONGEST`, and for a
            broken archive.
    """
    number = 1
    try:
        with opened(path) as file, _decoded(file) as text:
            while line := text.readline(LONGEST + len("\n")):
                if problem := _problem(line):
                    raise ValueError(f"{path}, line {number}: {problem}")
                # Joined files have marks at their seams.
                yield line.removeprefix(_MARK)
                number += 1
    except UnicodeError as error:
        raise ValueError(f"{path}, line {number}: not {error}.") from error
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}, line {number}: the file cannot be read: {error}.") from error


def opened(path: Path) -> Any:
    """Opens a file, decompressed as its suffix says.

    Args:
        path: the file.

    Returns:
        A binary file object.
    """
    name = path.name.lower()
    if name.endswith(".gz"):
        return gzip.open(path, "rb")
    if name.endswith(".zst"):
        return io.BufferedReader(pyarrow("lib").input_stream(str(path), compression="zstd"))
    return path.open("rb")


def pyarrow(module: str) -> Any:
    """Imports a module of pyarrow.

    Args:
        module: the name of the module.

    Returns:
        The module.

    Raises:
        ImportError: if pyarrow is not installed; the message has the pip command.
    """
    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ImportError as error:
        raise ImportError(
            "Parquet files, saved datasets and .zst files are read by pyarrow: pip install pyarrow"
        ) from error


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can encode a string; JSON's escapes can produce strings that it cannot.

    Args:
        text: the string.

    Returns:
        False for a string with lone surrogates.
    """
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _decoded(file: Any) -> io.TextIOWrapper:
    """Decodes bytes; bytes that are not text become surrogates, so that their line can be named."""
    start = file.peek(4)[:4]
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")
    errors = "surrogateescape" if encoding == "utf-8" else "surrogatepass"
    return io.TextIOWrapper(file, encoding, errors)


def _problem(line: str) -> str | None:
    if len(line) > LONGEST and line[-1] != "\n":
        return f"longer than {LONGEST:,} characters; split it into lines."
    if "\0" in line:
        return "a NUL byte; save the file as UTF-8 text (iconv -t utf-8)."
    if not is_unicode(line):
        return "not UTF-8; convert the file (iconv -f latin1 -t utf-8), or remove the line."
    return None
