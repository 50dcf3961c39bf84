"""A latent cache: every active code of a dictionary on a text, in the files that delphi reads.

    FOLDER/START_END.safetensors    of the latents START to END, the last included
        locations [E, 3]            (sequence, position, latent - START), by sequence and position
        activations [E]             float16; codes of at most 1e-5 are left out
        tokens [S, T]               the text
    FOLDER/config.json              what it was made of

Source: the code of eai-delphi 0.1.3 (`delphi/latents/cache.py`, `loader.py`). Here, a file whose codes are too
large for float16 holds float32, and a file whose latents never fire is empty, where delphi stops.

The text passes through the model once. Codes go to the disk batch by batch, and from there into one file after
the other, so that memory holds the codes of one batch, and then of one file.
"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dictlearn import files
from dictlearn import lm as language
from dictlearn.runs.active import active
from dictlearn.runs.trained import Trained
from dictlearn.runs.workdir import write_json
from dictlearn.streams._source import Forward, Recipe, Source, cut

LEAST = 1e-5
_EVENT = np.dtype([("at", "<u4", 3), ("val", "<f4")])


class _Split(NamedTuple):
    """The latents from start to end, the last included, and the file of their events."""

    start: int
    end: int
    events: Path


def write(
    dictionary: Trained,
    lm: language.LM,
    tap: Sequence[str],
    folder: str | Path,
    *,
    splits: int = 5,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **recipe: Any,
) -> None:
    """Writes the latent cache of a dictionary.

    Args:
        dictionary: the dictionary.
        lm: the model that it reads.
        tap: the taps that it reads, concatenated.
        folder: the folder of the files, replaced as a whole; its name is the hookpoint.
        splits: the number of files, each with as many latents.
        progress: called with (sequences done, sequences in all).
        recipe: the text, as in `config.harvest`; all of it is read.

    Raises:
        ValueError: for what a harvest refuses, and for more files than latents.
    """
    folder, n_latents = Path(folder), dictionary.module.n_latents
    if not 1 <= splits <= n_latents:
        raise ValueError(f"{splits=} must be at least 1 and at most the {n_latents} latents.")
    source = Source(lm, Recipe.of(taps=tuple(tap), dtype="float32", held_out=0.0, **recipe))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(folder) as half:
        half.mkdir()
        parts = _parts(n_latents, splits, half)
        _spill(dictionary, source, parts, progress)
        for part in parts:
            _settle(part, source.train.tokens_ST, half)
        write_json(half / "config.json", _about(source, splits))


def _parts(n_latents: int, splits: int, folder: Path) -> list[_Split]:
    edges = itertools.pairwise(np.linspace(0, n_latents, splits + 1).astype(int).tolist())
    return [_Split(start, stop - 1, folder / f"{start}.events") for start, stop in edges]


def _spill(dictionary: Trained, source: Source, parts: Sequence[_Split], progress) -> None:
    """Appends the events of the text to the file of their split, batch by batch."""
    tokens_ST, size = source.train.tokens_ST, source.recipe.lm_batch
    batch, edges = size * tokens_ST.shape[1], [part.start for part in parts]
    forward = Forward(source, source.taps)
    jobs = cut(np.arange(len(tokens_ST)), size)
    for n, rows in enumerate(forward.rows(source.train, jobs)):
        events = _events(dictionary, rows, source.taps, batch)
        part_E = np.searchsorted(edges, events["at"][:, 2], side="right") - 1
        for i, part in enumerate(parts):
            own = events[part_E == i]
            own["at"][:, 2] -= part.start
            with part.events.open("ab") as file:
                own.tofile(file)
        progress(min((n + 1) * size, len(tokens_ST)), len(tokens_ST))


def _events(dictionary: Trained, rows, tap: Sequence[str], batch: int) -> np.ndarray:
    """The events of some rows, in their order."""
    found = active(dictionary, rows, tap, np.arange(len(rows["sequence_R"])), batch)
    latent_E, sequence_E, position_E, val_E = (column[np.abs(found[3]) > LEAST] for column in found)
    events = np.empty(len(val_E), _EVENT)
    events["at"], events["val"] = np.stack([sequence_E, position_E, latent_E], axis=1), val_E
    return events


def _settle(part: _Split, tokens_ST: np.ndarray, folder: Path) -> None:
    """The file of a split, from its events."""
    events = np.fromfile(part.events, _EVENT)
    small = events["at"].max(initial=0) < 1 << 16
    fits = np.abs(events["val"]).max(initial=0) <= np.finfo(np.float16).max
    arrays = {
        "locations": events["at"].astype(np.uint16 if small else np.uint32),
        "activations": events["val"].astype(np.float16 if fits else np.float32),
        "tokens": np.asarray(tokens_ST, np.int64),
    }
    files.save_tensors(arrays, folder / f"{part.start}_{part.end}.safetensors")
    part.events.unlink()


def _about(source: Source, splits: int) -> dict[str, Any]:
    """config.json, as delphi writes it."""
    recipe, tokens_ST = source.recipe, source.train.tokens_ST
    return {
        "dataset_repo": Path(recipe.text).name,
        "dataset_split": recipe.split or "train",
        "dataset_name": "",
        "dataset_column": recipe.column,
        "batch_size": recipe.lm_batch,
        "cache_ctx_len": tokens_ST.shape[1],
        "n_tokens": tokens_ST.size,
        "n_splits": splits,
        "model_name": source.lm.name,
    }
