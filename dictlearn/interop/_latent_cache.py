"""A latent cache: every active code of a dictionary on a text, in the files that delphi reads.

    FOLDER/START_END.safetensors    of the latents START to END, the last included
        locations [E, 3]            (sequence, position, latent - START), by sequence and position
        activations [E]             float16; codes of at most 1e-5 are left out
        tokens [S, T]               the text
    FOLDER/config.json              what it was made of

Source: the code of eai-delphi 0.1.3 (`delphi/latents/cache.py`, `loader.py`). Here, a file whose codes are too
large for float16 holds float32, and a file whose latents never fire is empty, where delphi stops.

The codes come from an event cache (`dictlearn.events`). Memory holds one file of them.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from dictlearn import files
from dictlearn.events import Events
from dictlearn.runs.workdir import write_json

LEAST = 1e-5


def write(
    found: Events,
    folder: str | Path,
    *,
    splits: int = 5,
    split: str = "train",
    column: str = "text",
) -> None:
    """Writes the latent cache of a dictionary.

    Args:
        found: every active code of the dictionary on a text.
        folder: the folder of the files, replaced as a whole; its name is the hookpoint.
        splits: the number of files, each with as many latents.
        split, column: where the text was in its source, for config.json.

    Raises:
        ValueError: for more files than latents.
    """
    folder = Path(folder)
    check(splits, found.n_latents)
    edges = np.linspace(0, found.n_latents, splits + 1).astype(int).tolist()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(folder) as half:
        half.mkdir()
        for start, stop in itertools.pairwise(edges):
            arrays = _arrays(found, start, stop)
            files.save_tensors(arrays, half / f"{start}_{stop - 1}.safetensors")
        about = _about(found.recipe["rows"], found, splits)
        write_json(
            half / "config.json", {**about, "dataset_split": split, "dataset_column": column}
        )


def check(splits: int, n_latents: int) -> None:
    """Raises ValueError for more files than latents."""
    if not 1 <= splits <= n_latents:
        raise ValueError(f"{splits=} must be at least 1 and at most the {n_latents} latents.")


def _arrays(found: Events, start: int, stop: int) -> dict[str, np.ndarray]:
    """The arrays of the file of latents start to stop, by sequence and position."""
    own = slice(int(found.start_F[start]), int(found.start_F[stop]))
    latent_E = np.repeat(np.arange(stop - start), found.count_F[start:stop])
    place_E, val_E = found.place_E[own], found.val_E[own]
    kept_E = np.flatnonzero(np.abs(val_E) > LEAST)
    kept_E = kept_E[np.argsort(place_E[kept_E], kind="stable")]
    sequence_E, position_E = np.divmod(place_E[kept_E], found.length)
    at_E = np.stack([sequence_E, position_E, latent_E[kept_E]], axis=1)
    small = at_E.max(initial=0) < 1 << 16
    fits = np.abs(val_E).max(initial=0) <= np.finfo(np.float16).max
    return {
        "locations": at_E.astype(np.uint16 if small else np.uint32),
        "activations": val_E[kept_E].astype(np.float16 if fits else np.float32),
        "tokens": np.asarray(found.tokens_ST, np.int64),
    }


def _about(rows: dict[str, Any], found: Events, splits: int) -> dict[str, Any]:
    """config.json, as delphi writes it, but for the place of the text in its source."""
    return {
        "dataset_repo": rows["text"]["source"],
        "dataset_name": "",
        "batch_size": rows["lm_batch"],
        "cache_ctx_len": found.length,
        "n_tokens": found.tokens_ST.size,
        "n_splits": splits,
        "model_name": rows["model"]["name"],
    }
