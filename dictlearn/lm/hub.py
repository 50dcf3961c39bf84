"""Folders of Hugging Face models: local, or downloaded by their name on the hub."""

import re
from collections.abc import Sequence
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
FILES = ("*.json", "*.safetensors")
CONFIG = ("config.json",)


def is_hub_name(name: str) -> bool:
    """Whether a name has the form "owner/name".

    Args:
        name: the name.

    Returns:
        True if it does.
    """
    return _NAME.fullmatch(name) is not None


def fetch(name: str, files: Sequence[str] = FILES) -> Path:
    """Downloads a model from the hub, unless it is in the cache.

    Args:
        name: its name, "owner/name".
        files: the patterns of the files to download.

    Returns:
        The folder, whose name is the revision.

    Raises:
        ImportError: if `huggingface_hub` is not installed; the message has the pip command.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(f"To fetch {name!r}: pip install huggingface_hub") from error
    return Path(snapshot_download(name, allow_patterns=list(files)))
