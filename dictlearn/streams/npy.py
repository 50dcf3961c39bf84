"""Activations from a `.npy` array [N, D], memory-mapped, or from a pair of arrays for a transcoder.

Rows are shuffled one by one (`block_rows=1`), because such arrays usually are in the order of their text,
where a block of consecutive rows is one sentence. This is slow. Measured from the page cache, float32, D = 576,
one reader on a busy two-core machine, in thousands of rows a second: about 90 in blocks of 1, 300 in blocks of
4, 1000 in blocks of 16. Increase `block_rows` for an array that is already shuffled.
"""

from collections.abc import Mapping
from pathlib import Path

import grain
import numpy as np

from dictlearn.files import DAMAGE, digest
from dictlearn.normalise import (
    SCALAR_KINDS,
    Norm,
    apply,
    check_kind,
    estimate,
    norm_sums,
    scale,
)
from dictlearn.streams import Process, Stream, blocks
from dictlearn.types import Batch

_CHUNK_VALUES = 1 << 24
_ESTIMATE_ROWS = 4096


def npy(
    path: str | Path,
    target_path: str | Path | None = None,
    *,
    batch_size: int,
    seed: int,
    d_in: int | None = None,
    normalise: str = "none",
    block_rows: int = 1,
    held_out: float = 0.05,
    keys: bool = False,
    process: Process | None = None,
) -> Stream:
    """A stream of the rows of an array.

    Opening reads every row once, to check that it is finite and for the normalisation, and once more for its
    checksum; the checksum of a large array is cached.

    Args:
        path: a `.npy` file of real numbers, two-dimensional.
        target_path: the array of the targets; None for an autoencoder.
        batch_size, seed, normalise, process: as in every stream.
        d_in: the expected width; None to not check.
        block_rows: the number of consecutive rows that stay together.
        held_out: the fraction of the rows, at the end of the array, that is never trained on but evaluated.
        keys: batches carry the key of each token: position i of sequence 0 is row i.

    Returns:
        A Stream of float32 batches.

    Raises:
        FileNotFoundError: for a file that does not exist.
        ValueError: for an array that is not two-dimensional or not of real numbers, a width other than `d_in`,
            arrays of different lengths, a value that is not finite in float32, and fewer rows than a batch.
    """
    check_kind(normalise, transcoder=target_path is not None)
    x_ND = _open(path)
    y_ND = x_ND if target_path is None else _open(target_path)
    if d_in is not None and x_ND.shape[1] != d_in:
        raise ValueError(f"{path} is {x_ND.shape[1]} wide, and {d_in=} was asked for.")
    if len(x_ND) != len(y_ND):
        raise ValueError(
            f"{path} has {len(x_ND)} rows and {target_path} has {len(y_ND)}; row i of both must be "
            "the same token."
        )
    if not 0 <= held_out < 1:
        raise ValueError(f"{held_out=} must be a fraction, at least 0 and below 1.")
    n_train = len(x_ND) - round(held_out * len(x_ND))
    starts = blocks(n_train, block_rows, batch_size, seed, process)
    scale_in = _scan(path, x_ND, normalise)
    scale_out = scale_in if target_path is None else _scan(target_path, y_ND, normalise)

    def rows(row_B: np.ndarray | slice) -> Batch:
        x_BD = x_ND[row_B].astype(np.float32)
        return Batch(x_BD, x_BD if y_ND is x_ND else y_ND[row_B].astype(np.float32))

    def batch(block_K: np.ndarray) -> Batch:
        row_B = (block_K[:, None] * block_rows + np.arange(block_rows)).ravel()
        found = rows(row_B)
        if keys:
            position_B = row_B.astype(np.int32)
            found = found._replace(sequence_B=np.zeros_like(position_B), position_B=position_B)
        return apply(norm, found)

    if normalise in SCALAR_KINDS:
        norm = Norm(normalise, scale_in, scale_out)
    else:
        firsts = range(0, n_train, _ESTIMATE_ROWS)
        norm = estimate(
            normalise, (rows(slice(i, min(i + _ESTIMATE_ROWS, n_train))) for i in firsts)
        )

    rest = grain.MapDataset.range(n_train, len(x_ND), batch_size)
    return Stream(
        d_in=x_ND.shape[1],
        d_out=y_ND.shape[1],
        batches=starts.map(batch),
        norm=norm,
        n_rows=n_train // block_rows * block_rows,
        held_out=rest.map(lambda start: rows(slice(start, start + batch_size))),
        reads={"held_out": held_out, **_digests({"rows": path, "targets": target_path})},
    )


def _digests(paths: Mapping[str, str | Path | None]) -> dict[str, str]:
    return {name: digest(Path(path)) for name, path in paths.items() if path is not None}


def _open(path: str | Path) -> np.ndarray:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no array at {path}.")
    try:
        rows_ND = np.lib.format.open_memmap(path, mode="r")
    except DAMAGE as error:
        raise ValueError(f"{path} cannot be mapped as an .npy array: {error}") from error
    if rows_ND.dtype.kind not in "fiu":
        raise ValueError(f"{path} holds {rows_ND.dtype}, not real numbers; save it as float32.")
    if rows_ND.ndim != 2 or not rows_ND.size:
        raise ValueError(f"{path} has shape {rows_ND.shape}; it must be [rows, width], not empty.")
    return rows_ND


def _scan(path: str | Path, rows_ND: np.ndarray, kind: str) -> float:
    """The scale of a normalisation, after a check of every value."""
    sums, width = np.zeros(3), rows_ND.shape[1]
    step = max(1, _CHUNK_VALUES // width)
    for start in range(0, len(rows_ND), step):
        with np.errstate(over="ignore"):
            chunk_BD = rows_ND[start : start + step].astype(np.float32)
        if not np.isfinite(chunk_BD).all():
            row, column = np.argwhere(~np.isfinite(chunk_BD))[0].tolist()
            raise ValueError(
                f"{path} holds {rows_ND[start + row, column]} at row {start + row}, column "
                f"{column}; every value must be finite in float32."
            )
        sums += norm_sums(chunk_BD)
    tokens, norms, squares = sums.tolist()
    return scale(kind, width, norms / tokens, squares / tokens)
