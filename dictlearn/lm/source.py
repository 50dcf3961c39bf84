"""The source of a model: the names of its files and their SHA-256, of every shard.

It is computed without loading the weights; a large file is read once, and its checksum cached
(`files.digest`).
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dictlearn.files import digest
from dictlearn.lm.weights import Safetensors

_DESCRIPTIONS = {"config_sha256": "config.json", "tokenizer_sha256": "tokenizer.json"}


def of_folder(folder: Path, tensors: Safetensors) -> dict[str, str]:
    """The source of a model in a folder of safetensors.

    Args:
        folder: the folder.
        tensors: its tensors.

    Returns:
        Names and checksums; `sha256` is the checksum of the only file, or of the index and all its shards.
    """
    files = {tensors.main, *tensors.files.values()}
    weights = digest(*(folder / file for file in sorted(files)))
    return {"file": tensors.main, "sha256": weights, **_described(folder)}


def of_gguf(path: Path, tensors: Mapping[str, Any]) -> dict[str, str]:
    """The source of a model in a GGUF file, whose tokenizer may be a file in the same folder.

    Args:
        path: the file.
        tensors: its tensors.

    Returns:
        Names and checksums.
    """
    kinds = Counter(tensor.kind.name for tensor in tensors.values())
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    found = {"file": path.name, "sha256": digest(path), "quantisation": listed}
    described = _described(path.parent)
    return found | {key: value for key, value in described.items() if key == "tokenizer_sha256"}


def _described(folder: Path) -> dict[str, str]:
    found = {key: folder / name for key, name in _DESCRIPTIONS.items()}
    return {key: digest(file) for key, file in found.items() if file.is_file()}
