"""The events of a dictionary on a text: (sequence, position, value) of every active code, sorted by latent.

    manifest.json    format, recipe (dictionary, rows, widths), files: name -> bytes, sha256
    start.npy        int64 [F + 1]     latent i has the events start[i] to start[i + 1]
    place.npy        uint32 [E]        sequence * T + position, ascending within a latent
    value.npy        float32 [E]       the code, which is not 0
    largest.npy      float32 [F]       the largest value of each latent, 0 for one that never fired
    tokens.npy       int32 [S, T]      mask.npy    bool [S, T]: which tokens were read

The arrays are memory-mapped, so a latent's events are one contiguous read. Places are uint64 for more than 2^32
tokens.

Axes: E an event; the others as in `dictlearn.types`.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import files

FORMAT = 1
MANIFEST = "manifest.json"
COLUMNS = ("start", "place", "value", "largest", "tokens", "mask")


@dataclass(frozen=True, eq=False)
class Events:
    """Every active code on a text.

    Args:
        start_F, place_E, val_E, largest_F, tokens_ST, mask_ST: the arrays of the cache.
        recipe: what they were made of.

    Example:
        >>> tokens_ST = np.zeros((1, 3), np.int32)
        >>> start_F, place_E, val_E = np.array([0, 0, 2]), np.array([1, 2]), np.array([0.5, 2.0])
        >>> largest_F, mask_ST = np.array([0.0, 2.0]), np.ones((1, 3), bool)
        >>> events = Events(start_F, place_E, val_E, largest_F, tokens_ST, mask_ST)
        >>> events.of(1), events.density_F.round(2).tolist()
        ((array([1, 2]), array([0.5, 2. ])), [0.0, 0.67])
    """

    start_F: np.ndarray
    place_E: np.ndarray
    val_E: np.ndarray
    largest_F: np.ndarray
    tokens_ST: np.ndarray
    mask_ST: np.ndarray
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_latents(self) -> int:
        """The number of latents."""
        return len(self.start_F) - 1

    @property
    def length(self) -> int:
        """The number of tokens of a sequence."""
        return self.tokens_ST.shape[1]

    @functools.cached_property
    def n_tokens(self) -> int:
        """The number of tokens that the dictionary was read on."""
        return int(np.count_nonzero(self.mask_ST))

    @functools.cached_property
    def count_F(self) -> np.ndarray:
        """The number of tokens on which each latent fired."""
        return np.diff(self.start_F)

    @functools.cached_property
    def density_F(self) -> np.ndarray:
        """The share of tokens on which each latent fired."""
        return self.count_F / self.n_tokens

    def of(self, latent: int) -> tuple[np.ndarray, np.ndarray]:
        """(place_E, val_E) of a latent, in the order of the text."""
        own = slice(int(self.start_F[latent]), int(self.start_F[latent + 1]))
        return self.place_E[own], self.val_E[own]

    def within(self, latent: int, places: slice) -> tuple[np.ndarray, np.ndarray]:
        """(place_E, val_E) of a latent at these places, in the order of the text."""
        place_E, val_E = self.of(latent)
        low, high = np.searchsorted(place_E, (places.start, places.stop))
        return place_E[low:high], val_E[low:high]

    def first(self, n_sequences: int) -> "Events":
        """The events of the first sequences; the cache itself if it has no more."""
        if n_sequences >= len(self.tokens_ST):
            return self
        kept = np.flatnonzero(self.place_E < n_sequences * self.length)
        start_F = np.searchsorted(kept, self.start_F)
        place_E, val_E = self.place_E[kept], self.val_E[kept]
        text = self.tokens_ST[:n_sequences], self.mask_ST[:n_sequences]
        largest_F = largest(val_E, start_F)
        return Events(start_F, place_E, val_E, largest_F, *text, recipe=self.recipe)


def largest(val_E: np.ndarray, start_F: np.ndarray) -> np.ndarray:
    """The largest value of each latent, 0 for one without events."""
    fired_F = np.diff(start_F) > 0
    found = np.zeros(len(fired_F), np.float32)
    if fired_F.any():
        found[fired_F] = np.maximum.reduceat(val_E, start_F[:-1][fired_F])
    return found


def read(path: str | Path, verify: bool = True) -> Events:
    """Opens an event cache.

    Args:
        path: its folder.
        verify: checks the sha256 of every file first (about 1 GB a second).

    Returns:
        Events, memory-mapped.

    Raises:
        FileNotFoundError: for a cache that does not exist or is not finished.
        ValueError: for a damaged file, naming it.

    Example:
        >>> read("/nowhere")
        Traceback (most recent call last):
        FileNotFoundError: /nowhere holds no finished event cache; `dictlearn events` writes it, and continues.
    """
    path = Path(path)
    manifest = open_manifest(path)
    for name, entry in manifest["files"].items():
        if damage := damaged(path / name, entry, verify):
            raise ValueError(f"{path / name} {damage}; remove {path}, and write the cache again.")
    arrays = [np.load(path / f"{name}.npy", mmap_mode="r") for name in COLUMNS]
    return Events(*arrays, recipe=manifest["recipe"])


def open_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a finished cache."""
    file = path / MANIFEST
    if not file.is_file():
        raise FileNotFoundError(
            f"{path} holds no finished event cache; `dictlearn events` writes it, and continues."
        )
    try:
        manifest = json.loads(file.read_text("utf-8"))
        listed = {f"{name}.npy" for name in COLUMNS}
        known = manifest["format"], manifest["files"].keys(), type(manifest["recipe"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is damaged ({error}); remove {path}.") from error
    if known != (FORMAT, listed, dict):
        raise ValueError(f"{file} must have format {FORMAT}, a recipe, and {sorted(listed)}.")
    return manifest


def damaged(file: Path, entry: Mapping[str, Any], verify: bool) -> str | None:
    """How a file differs from its entry in the manifest; None if it does not."""
    if not file.is_file():
        return "is missing"
    if (size := file.stat().st_size) != entry["bytes"]:
        return f"has {size} bytes, not {entry['bytes']}"
    return "does not match its sha256" if verify and files.sha256(file) != entry["sha256"] else None
