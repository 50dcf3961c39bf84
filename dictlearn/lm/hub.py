"""Folders of Hugging Face models: local, or fetched by their name on the hub."""

import re
from collections.abc import Sequence
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
FILES = ("*.json", "*.safetensors")
CONFIG = ("config.json",)


def is_hub_name(name: str) -> bool:
    """True of "owner/name"."""
    return _NAME.fullmatch(name) is not None


def fetch(name: str, files: Sequence[str] = FILES) -> Path:
    """The folder of a model on the hub, downloaded where it is not in the cache: the files of these
    patterns, and no other. Its name is the revision.

    Raises ImportError with the pip line where `huggingface_hub` is not installed."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(f"To fetch {name!r}: pip install huggingface_hub") from error
    return Path(snapshot_download(name, allow_patterns=list(files)))
