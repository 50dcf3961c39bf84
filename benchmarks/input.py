"""The speed of reading activations from disk, against the speed of the training step.

    python benchmarks/input.py [--rounds=5] [--steps=40] [--figure=docs/input.png] [--json=FILE]

A store of bfloat16 rows is written to a temporary folder. Rounds interleave three rates, in rows per second,
and medians count. The first is the stream alone (`streams.read`, the threads and the prefetch of a run) from
the page cache. The second is the same after the kernel was told to drop the files. The third is the TopK step
with everything on, on a batch in memory. Then `train` itself runs on the store and logs every step. Its
reading, its waiting for a batch, the transfer to the device and its steps are timed where they happen. Every
step is waited for, so that none hides a late batch. The figure shows the last ones.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

import grain
import jax
import ml_dtypes
import numpy as np
from matplotlib.figure import Figure

import dictlearn.train as loop
from dictlearn import experiment, sharding, streams
from dictlearn.streams import _store_write
from dictlearn.types import Batch

SHARDS = 4
SHOWN = 6
"""Steps in the figure."""


def write_store(path: Path, n_rows: int, d: int) -> None:
    """A finished store of one tap of normal rows."""
    manifest = _store_write.begin(path, {"taps": {"resid.0": d}, "seed": 0})
    assert manifest is not None
    empty_ST = np.zeros((1, 2), np.int32)
    for split in ("train", "held_out"):
        _store_write.add_tokens(path, manifest, split, empty_ST, empty_ST > 0)
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        rows_RD = rng.standard_normal((n_rows // SHARDS, d), np.float32)
        key_R = np.arange(len(rows_RD), dtype=np.int32)
        tensors = {"resid.0": rows_RD.astype(ml_dtypes.bfloat16)}
        _store_write.add_shard(
            path, manifest, shard, tensors | {"sequence_R": key_R, "position_R": key_R}
        )
    _store_write.complete(path, manifest)


def forget(path: Path) -> None:
    """Drop the files of a store from the page cache."""
    for file in path.iterdir():
        with file.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def reading(config: dict, path: Path, n_batches: int, cold: bool) -> float:
    """Rows per second of the stream alone, once its threads have started."""
    if cold:
        forget(path)
    opened = {**config["stream"], "batch_size": config["batch_size"], "seed": 0, "verify": False}
    batches = streams.read(streams.make(**opened))
    next(batches)
    start = time.perf_counter()
    for _ in range(n_batches):
        next(batches)
    return n_batches * config["batch_size"] / (time.perf_counter() - start)


def stepping(config: dict, d: int):
    """A function that gives the rows per second of one step on a batch in memory."""
    mesh = sharding.mesh()
    x_BD = np.random.default_rng(0).standard_normal((config["batch_size"], d), np.float32)
    with jax.set_mesh(mesh):
        (program,) = experiment.programs(config, d, None)
        batch = loop.place(Batch(x_BD, x_BD), mesh)
        held = [experiment.init(program, batch, mesh)]
        update = experiment.update(program, held[0], mesh)

    def rate() -> float:
        start = time.perf_counter()
        with jax.set_mesh(mesh):
            held[0], info = update(held[0], program.hparams, batch)
        jax.block_until_ready((held, info))
        return config["batch_size"] / (time.perf_counter() - start)

    rate()
    return rate


class Spans:
    """When what was done, by which thread: (what, thread, start, end) in seconds."""

    def __init__(self):
        self.found: list[tuple[str, int, float, float]] = []

    @contextlib.contextmanager
    def of(self, what: str):
        start = time.perf_counter()
        yield
        self.found.append((what, threading.get_ident(), start, time.perf_counter()))


def timed_run(config: dict, workdir: Path) -> Spans:
    """What `train` did and when."""
    spans, read, place, update = Spans(), streams.read, loop.place, experiment.update

    def element(stream, step: int):
        with spans.of("read"):
            return stream.batch(step)

    def timed_read(stream, start: int = 0):
        numbers = grain.MapDataset.range(config["steps"] + 64)
        batches = read(stream._replace(batches=numbers.map(lambda t: element(stream, t))), start)
        for _ in itertools.count():
            with spans.of("wait"):
                batch = next(batches)
            yield batch

    def timed_place(batch, mesh):
        with spans.of("place"):
            return place(batch, mesh)

    def timed_update(program, state, mesh):
        call = update(program, state, mesh)

        def step(state, hparams, batch):
            with spans.of("step"):
                return jax.block_until_ready(call(state, hparams, batch))

        return step

    with (
        mock.patch.object(streams, "read", timed_read),
        mock.patch.object(loop, "place", timed_place),
        mock.patch.object(experiment, "update", timed_update),
    ):
        loop.train(config, workdir)
    return spans


def summary(spans: Spans, skip: int = 2) -> dict:
    """Shares of the wall clock of the steps after the first `skip`, which compile."""
    steps = [span for span in spans.found if span[0] == "step"][skip:]
    first, last = steps[0][2], steps[-1][3]
    inside = [span for span in spans.found if span[2] >= first and span[3] <= last]
    total = lambda what: sum(end - start for w, _, start, end in inside if w == what)
    waits = [end - start for what, _, start, end in inside if what in ("wait", "place")]
    return {
        "steps": len(steps),
        "seconds": last - first,
        "waiting_share": sum(waits) / (last - first),
        "longest_wait_seconds": max(waits),
        "stepping_share": total("step") / (last - first),
        "reading_share_of_one_thread": total("read") / (last - first),
    }


def draw(spans: Spans, path: Path) -> None:
    """The last steps of the run: reading in its threads, over waiting and stepping in the loop's."""
    steps = [span for span in spans.found if span[0] == "step"][-SHOWN:]
    start, end = steps[0][2], steps[-1][3]
    readers = sorted({thread for what, thread, _, _ in spans.found if what == "read"})
    main = steps[0][1]
    lanes = {("step", main): "step", ("place", main): "batch to the device"}
    lanes |= {("wait", main): "loop waits for a batch"}
    lanes |= {("read", thread): f"reader {n + 1}" for n, thread in enumerate(readers)}
    colours = {"step": "#31688e", "place": "#7a5195", "wait": "#d1495b", "read": "#e08e2b"}
    figure = Figure(figsize=(9, 0.5 + 0.45 * len(lanes)), dpi=160, layout="constrained")
    axes = figure.subplots()
    for height, (what, thread) in enumerate(lanes):
        pieces = [
            (begun - start, ended - begun)
            for w, t, begun, ended in spans.found
            if (w, t) == (what, thread) and begun < end and ended > start
        ]
        colour = colours[what]
        axes.broken_barh(pieces, (height - 0.35, 0.7), color=colour)
        edge = "white" if what == "step" else colour  # what is short must be seen, too
        axes.vlines([p[0] for p in pieces], height - 0.35, height + 0.35, edge, linewidth=1)
    axes.set_yticks(range(len(lanes)), lanes.values())
    axes.set_xlim(0, end - start)
    axes.set_xlabel("seconds")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("d", 768), ("n", 12288), ("k", 32), ("batch", 2048)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rows", type=int, default=2**17, help="of the store")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="of the run")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    config = {
        **{"seed": 0, "steps": a.steps, "batch_size": a.batch, "log_every": 1},
        "dictionary": {"name": "topk", "n_latents": a.n, "k": a.k, "aux_k": a.d // 2},
        "rule": {"name": "adam"},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        write_store(path, a.rows, a.d)
        config["stream"] = {"name": "store", "path": str(path), "normalise": "unit_mean_sq"}
        n_batches, rate = a.rows // a.batch, stepping(config, a.d)
        rates = {"page cache": [], "forgotten": [], "step": []}
        for _ in range(a.rounds):
            rates["forgotten"].append(reading(config, path, n_batches, cold=True))
            rates["page cache"].append(reading(config, path, n_batches, cold=False))
            rates["step"] += [rate(), rate()]
        spans = timed_run(config, Path(folder) / "run")
    rows = {name: statistics.median(found) for name, found in rates.items()}
    found = {
        "sizes": {"d": a.d, "n_latents": a.n, "k": a.k, "batch": a.batch, "rows": a.rows},
        "versions": {"jax": jax.__version__, "backend": jax.default_backend()},
        "rows_per_second": rows,
        "times_the_steps_consumption": {
            name: rows[name] / rows["step"] for name in ("page cache", "forgotten")
        },
        "run": summary(spans),
    }
    print(json.dumps(found, indent=2))
    if a.figure:
        draw(spans, a.figure)
    if a.json:
        a.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
