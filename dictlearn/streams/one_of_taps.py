"""The rows of a group of taps in one stream: for every token, the activation at one of the taps, drawn
uniformly.

    x_b = s_l(b) x_b^l(b),    l(b) uniform over the taps,    s_l the scale of tap l alone

The tap of a row is drawn by Philox from (seed, t, process). Each row is already scaled by the scale of
its own tap, so the stream's own normalisation is none. A dictionary of a group reads the rows of a tap with the
scale that a stream of this tap alone would give them.

Source: Ghilardi et al. 2024/25 (arXiv:2410.21508), one dictionary for a group of layers.
"""

from collections.abc import Sequence
from pathlib import Path

import grain
import jax
import numpy as np

from dictlearn.normalise import Norm, check_kind
from dictlearn.streams import Origin, Process, Stream, store
from dictlearn.types import Batch

FROM_HARVEST = True


def one_of_taps(
    path: str | Path,
    taps: str | Sequence[str],
    *,
    batch_size: int,
    seed: int,
    normalise: str = "none",
    block_rows: int = 64,
    verify: bool = True,
    process: Process | None = None,
) -> Stream:
    """A stream that draws one of several taps for each token; an epoch has each token once.

    Args:
        path: a store.
        taps: their names or patterns.
        batch_size, seed, normalise, block_rows, verify, process: as in `store`.

    Returns:
        A Stream.

    Raises:
        FileNotFoundError: as `store` does.
        ValueError: as `store` does, and for taps of different widths, and a normalisation that is not a scalar.
    """
    (source,) = origin(path, taps, normalise)
    shared = {"normalise": normalise, "block_rows": block_rows, "process": process}
    whole = store.store(
        path, source.read, batch_size=batch_size, seed=seed, verify=verify, **shared
    )
    n_taps = len(source.read)
    width = whole.d_in // n_taps
    index = (process or (jax.process_index(), jax.process_count()))[0]

    def batch(step: int) -> Batch:
        rows_BD = whole.batch(step).x_BD
        chosen_B = source_of(seed, step, index, len(rows_BD), n_taps)
        x_BD = rows_BD.reshape(len(rows_BD), -1, width)[np.arange(len(rows_BD)), chosen_B]
        return Batch(x_BD, x_BD)

    return Stream(
        d_in=width,
        d_out=width,
        batches=grain.MapDataset.range(len(whole.batches)).map(batch),
        norm=Norm(),
        n_rows=whole.n_rows,
        origin=(source,),
    )


def origin(path: str | Path, taps: str | Sequence[str], normalise: str = "none") -> tuple[Origin]:
    """The origin of the rows, with the scale of each tap.

    Args:
        path, taps, normalise: as in `one_of_taps`.

    Returns:
        One Origin.
    """
    (source,) = store.origin(path, taps)
    check_kind(normalise, transcoder=True)
    return (source._replace(scales=tuple(store.scales(path, normalise, source.read))),)


def source_of(seed: int, step: int, process: int, rows: int, n_taps: int) -> np.ndarray:
    """The index of the tap of each row of a batch, [rows]."""
    key = np.random.SeedSequence(seed, spawn_key=(step, process))
    return np.random.Generator(np.random.Philox(key)).integers(n_taps, size=rows)
