"""A harvest in a process of its own: harvester.py MODEL TEXT STORE INDEX COUNT PORT SECONDS LIMIT.

It rests SECONDS after every forward pass. Once a shard is written, no file may exceed LIMIT bytes
(0: no bound), which is the nearest thing to a full disk that needs no privileges."""

import json
import resource
import sys
import time
from pathlib import Path

import jax

from dictlearn.harvest import harvest
from tests.streams.language import SIZES, TAPS, load


def listed(manifest: Path) -> bool:
    """Whether a manifest lists a shard."""
    return manifest.exists() and bool(json.loads(manifest.read_text())["shards"])


if __name__ == "__main__":
    model, text, path, index, count, port, seconds, limit = sys.argv[1:]
    if int(count) > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", int(count), int(index))

    def progress(done, total):
        time.sleep(float(seconds))
        if int(limit) and done > 2 * SIZES["shard_rows"]:
            while not listed(Path(path) / "partial.json"):  # shards are written behind the model
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))

    harvest(load(model), path, TAPS, text=text, dtype="float32", progress=progress, **SIZES)
