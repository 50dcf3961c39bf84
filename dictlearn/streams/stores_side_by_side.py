"""Several stores of one text, concatenated: the same tokens through several models, as a crosscoder reads
them.

The models must have the same tokenizer. The token files of the stores must be equal byte for byte, and their
recipes equal except for the model and the taps; otherwise rows belong to other tokens. Everything in `store`
applies to each store.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
import numpy as np

from dictlearn.normalise import Norm, check_kind, side_by_side
from dictlearn.streams import Origin, Process, Stream, store
from dictlearn.streams.store import open_manifest
from dictlearn.types import Batch

_OF_A_MODEL = ("model", "taps")


def stores_side_by_side(
    paths: Sequence[str | Path],
    tap: str | Sequence[str] | None = None,
    *,
    batch_size: int,
    seed: int,
    normalise: str = "none",
    block_rows: int = 64,
    verify: bool = True,
    keys: bool = False,
    process: Process | None = None,
) -> Stream:
    """A stream of the concatenated rows of several stores, each with its own scale.

    Args:
        paths: the stores, in order.
        tap: as in `store`, for each of them.
        batch_size, seed, normalise, block_rows, verify, keys, process: as in `store`.

    Returns:
        A Stream.

    Raises:
        FileNotFoundError: as `store` does.
        ValueError: as `store` does, and for fewer than two stores, stores of different texts, different widths,
            and a normalisation that is not a scalar.
    """
    check_kind(normalise, transcoder=True)
    if len(paths) < 2 or isinstance(paths, str):
        raise ValueError(
            f"{paths=} must name two stores or more; a single one is the stream 'store'."
        )
    _same_rows(paths)
    shared: dict[str, Any] = {"normalise": normalise, "block_rows": block_rows, "verify": verify}
    shared |= {"batch_size": batch_size, "seed": seed, "process": process, "keys": keys}
    sides = [store.store(path, tap, **shared) for path in paths]
    if len({side.d_in for side in sides}) > 1:
        listed = ", ".join(f"{p} has {s.d_in}" for p, s in zip(paths, sides, strict=True))
        raise ValueError(f"Stores side by side must be of one width; {listed}.")

    def batch(step: int) -> Batch:
        parts = [side.batch(step) for side in sides]
        x_BD = np.concatenate([part.x_BD for part in parts], axis=1)
        return parts[0]._replace(x_BD=x_BD, y_BD=x_BD)

    first = sides[0]
    scale = side_by_side(np.concatenate([np.ravel(side.norm.scale_in) for side in sides]).tolist())
    return Stream(
        d_in=len(sides) * first.d_in,
        d_out=len(sides) * first.d_in,
        batches=grain.MapDataset.range(len(first.batches)).map(batch),
        norm=Norm(normalise, scale, scale),
        n_rows=first.n_rows,
        origin=origin(paths, tap),
    )


def origin(
    paths: Sequence[str | Path], tap: str | Sequence[str] | None = None
) -> tuple[Origin, ...]:
    """The origin of the rows of each store.

    Args:
        paths, tap: as in `stores_side_by_side`.

    Returns:
        One Origin for each store, in order.
    """
    return tuple(one for path in paths for one in store.origin(path, tap))


def _same_rows(paths: Sequence[str | Path]) -> None:
    manifests = [open_manifest(path) for path in paths]
    wanted = _text(manifests[0])
    for path, manifest in zip(paths, manifests, strict=True):
        found = _text(manifest)
        differ = sorted(key for key in wanted | found if wanted.get(key) != found.get(key))
        if differ:
            raise ValueError(
                f"{path} and {paths[0]} differ in {', '.join(differ)}: their rows are of other tokens; "
                "harvest both with the same arguments."
            )


def _text(manifest: dict[str, Any]) -> dict[str, Any]:
    """Everything that determines the tokens of the rows, and their order."""
    recipe = {key: value for key, value in manifest["recipe"].items() if key not in _OF_A_MODEL}
    rows = {name: entry["rows"] for name, entry in manifest["shards"].items()}
    tokens = {name: entry["sha256"] for name, entry in manifest["tokens"].items()}
    return recipe | {"shards": rows, "tokens": tokens}
