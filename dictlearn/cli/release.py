"""`dictlearn push` and `dictlearn pull`: releases of dictionaries on the hub."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

PUSH_FLAGS = {
    "source": {
        "metavar": "SRC",
        "help": "the workdir of a run, or a dictionary of any format",
    },
    "name": {
        "metavar": "OWNER/NAME",
        "help": "the repository, created if it does not exist",
    },
    "--to": {
        "metavar": "FORMATS",
        "help": "formats; a dictionary is written in the first that can hold it (saelens,safetensors)",
    },
    "--private": {"action": "store_true", "help": "make the repository private"},
    "--out": {
        "metavar": "DIR",
        "help": "write the release to this folder, and upload nothing",
    },
}
PULL_FLAGS = {
    "name": {"metavar": "OWNER/NAME", "help": "the repository"},
    "folder": {"metavar": "DIR", "help": "an empty or a new folder"},
}


def push(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Uploads a release, or writes it to a folder."""
    from dictlearn import hub

    formats = arguments.to.split(",") if arguments.to else hub.FORMATS
    if arguments.out:
        print(hub.release(arguments.source, arguments.out, arguments.name, formats))
    else:
        print(hub.push(arguments.source, arguments.name, formats, arguments.private))


def pull(config: Mapping, workdir: Path, arguments: Namespace) -> None:
    """Downloads a repository."""
    from dictlearn import hub

    print(hub.pull(arguments.name, arguments.folder))
