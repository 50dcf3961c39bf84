"""A small store whose rows carry their own number in column 0."""

import numpy as np

from dictlearn.streams import _store_write

ROWS, WIDTHS = 1037, {"resid.0": 5, "mlp_out.0": 3}


def numbered(width, dtype=np.float32):
    rows = np.random.default_rng(width).standard_normal((ROWS, width))
    rows[:, 0] = np.arange(ROWS)
    return rows.astype(dtype)


def write_store(path, shards=3, dtype=np.float32, seed=0):
    """A complete store of ROWS rows; row i of a tap holds i in column 0."""
    manifest = _store_write.begin(path, {"taps": WIDTHS, "seed": seed})
    if manifest is None:
        return path
    tokens, mask = np.arange(40, dtype=np.int32).reshape(4, 10), np.ones((4, 10), bool)
    _store_write.add_tokens(path, manifest, "train", tokens, mask)
    _store_write.add_tokens(path, manifest, "held_out", tokens + 1, mask)
    for shard, rows in enumerate(np.array_split(np.arange(ROWS, dtype=np.int32), shards)):
        if _store_write.shard_name(shard) not in manifest["shards"]:
            tensors = {tap: numbered(width, dtype)[rows] for tap, width in WIDTHS.items()}
            tensors |= {"sequence_R": rows // 10, "position_R": rows % 10}
            _store_write.add_shard(path, manifest, shard, tensors)
    _store_write.complete(path, manifest)
    return path
