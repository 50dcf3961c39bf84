"""`dictlearn export` and `dictlearn convert`: dictionaries of a run as files, and files in another format."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from dictlearn import interop

EXPORT_FLAGS = {
    "--format": {"default": "npz", "help": f"one of {', '.join(interop.names())}"},
    "--out": {"metavar": "DIR", "help": "folder of the files; default DIR/export"},
}
CONVERT_FLAGS = {
    "source": {"metavar": "SRC", "help": "a file or a folder of any format"},
    "target": {"metavar": "DST", "help": "the file or the folder to write"},
    "--to": {"required": True, "help": f"one of {', '.join(interop.names())}"},
}


def export(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Writes the dictionaries of the run in `workdir`, and prints the paths."""
    for path in interop.export(
        workdir, arguments.format, Path(arguments.out or workdir / "export")
    ):
        print(path)


def convert(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Writes a dictionary file in another format."""
    interop.convert(arguments.source, arguments.target, arguments.to)
    print(arguments.target)
