"""The lines of a text file, as people have them: plain, gzipped or in zstandard; after any byte order mark;
with any line ends.

A file is UTF-8, or what its byte order mark says (UTF-16, UTF-32). Whatever is no text is a ValueError
that names the file and the line: nothing is guessed and nothing replaced, because a corpus in another
encoding would be trained on as noise.
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
    """The lines of a file, each with its end, which is "\\n".

    Raises ValueError for bytes that are not of its encoding, for NUL, for a line longer than `LONGEST`,
    and for a broken archive."""
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
    """The bytes of a file, unpacked as its name says."""
    name = path.name.lower()
    if name.endswith(".gz"):
        return gzip.open(path, "rb")
    if name.endswith(".zst"):
        return io.BufferedReader(pyarrow("lib").input_stream(str(path), compression="zstd"))
    return path.open("rb")


def pyarrow(module: str) -> Any:
    """A module of pyarrow. Raises ImportError, with the pip line, where it is not installed."""
    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ImportError as error:
        raise ImportError(
            "Parquet files, saved datasets and .zst files are read by pyarrow: pip install pyarrow"
        ) from error


def is_unicode(text: str) -> bool:
    """False for a string that UTF-8 cannot hold, which JSON's escapes can."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _decoded(file: Any) -> io.TextIOWrapper:
    """Bytes that are no text become surrogates, so that the line that holds them is known."""
    start = file.peek(4)[:4]
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8")
    errors = "surrogateescape" if encoding == "utf-8" else "surrogatepass"
    return io.TextIOWrapper(file, encoding, errors)


def _problem(line: str) -> str | None:
    if len(line) > LONGEST and line[-1] != "\n":
        return f"longer than {LONGEST:,} characters; part it into lines."
    if "\0" in line:
        return "a NUL byte; save the file as UTF-8 text (iconv -t utf-8)."
    if not is_unicode(line):
        return "not UTF-8; convert the file (iconv -f latin1 -t utf-8), or take the line out."
    return None
