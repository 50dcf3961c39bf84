"""Folders of Hugging Face models: local, or downloaded by their name on the hub."""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

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
    return Path(library(f"fetch {name!r}").snapshot_download(name, allow_patterns=list(files)))


def library(purpose: str) -> ModuleType:
    """Imports the hub's library, which is an optional dependency.

    Args:
        purpose: what it is for, for the message: "To PURPOSE: pip install huggingface_hub".

    Returns:
        The module `huggingface_hub`.

    Raises:
        ImportError: if it is not installed; the message has the pip command.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ImportError(f"To {purpose}: pip install huggingface_hub") from error


def reason(error: Exception) -> str:
    """The hub's reason for an error.

    Args:
        error: what its library raised.

    Returns:
        The first line of the message; the kind of an error without one.
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__
