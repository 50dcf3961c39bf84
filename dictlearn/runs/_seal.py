"""The seal of a folder: the SHA-256 of every file in it, one line for each file, written last."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from etils import epath

from dictlearn import files

SEAL = "checksums.sha256"
HASHING_THREADS = 4
BLOCK_BYTES = 1 << 20


def seal(path: epath.Path) -> None:
    """Writes the seal of the folder atomically. After the return, a power cut loses nothing in the folder."""
    unsealed = path / f"{SEAL}.tmp"
    unsealed.write_bytes(_checksums(path))
    if "://" in str(path):  # An object is stored once it is written.
        unsealed.replace(path / SEAL)
        return
    files.to_disk(Path(path))
    files.rename(Path(unsealed), Path(path / SEAL))
    files.sync(Path(path.parent))


def damage(path: epath.Path) -> str | None:
    """A short description of the damage of a checkpoint; None when it equals its seal."""
    try:
        if not (path / SEAL).exists():
            return f"it has no {SEAL}: its writing was interrupted"
        sealed, found = (path / SEAL).read_bytes(), _checksums(path)
    except OSError as error:
        return f"it cannot be read: {error}"
    if sealed == found:
        return None
    was, now = _by_name(sealed), _by_name(found)
    for name in sorted(was.keys() | now.keys()):
        if name not in now:
            return f"{name}, listed in {SEAL}, is missing"
        if name not in was:
            return f"{name} is not listed in {SEAL}"
        if was[name] != now[name]:
            return f"{name} does not match its line in {SEAL}"
    return f"{SEAL} is altered"


def _checksums(path: epath.Path) -> bytes:
    """The seal of the current files: a line "<sha256> <name>" for each file, in the order of the names."""
    found = {
        (folder / name).relative_to(path).as_posix(): folder / name
        for folder, _, names in path.walk()
        for name in names
    }
    names = sorted(found.keys() - {SEAL})
    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        digests = pool.map(_sha256, (found[name] for name in names))
        return "".join(f"{d}  {n}\n" for d, n in zip(digests, names, strict=True)).encode()


def _sha256(path: epath.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _by_name(checksums: bytes) -> dict[str, str]:
    lines = checksums.decode(errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
