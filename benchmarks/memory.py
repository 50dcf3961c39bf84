"""Memory that a plan predicts for this machine, and memory that a run takes: training steps of any variant.

    python benchmarks/memory.py [--name=topk,batch_topk] [--d=256 --n=8192 --k=32 --batch=4096] [--json=FILE]

predicted: all memory that `dictlearn.plan` says is held, for one device of this machine. measured: the highest
resident memory of three steps in a separate process (`VmHWM` of Linux, reset by /proc/self/clear_refs).
The memory after imports and compilation, before its arrays were made, is subtracted. Arrays must be of tens of
megabytes, so that buffers outweigh the memory that malloc keeps.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

SIZES = {"d": 256, "n": 8192, "k": 32, "batch": 4096}
ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "JAX_PLATFORMS": "cpu",
}
"""Memory that is freed goes back to the system at once, where it comes in pieces above a mebibyte."""


def config(name: str, sizes: dict) -> dict:
    sparsity = {"relu": {"sparsity": 0.1}, "jumprelu": {}}.get(name, {"k": sizes["k"]})
    return {
        "seed": 0,
        "steps": 10,
        "batch_size": sizes["batch"],
        "dictionary": {"name": name, "n_latents": sizes["n"], **sparsity},
        "objective": {"name": "fvu"},
        "rule": {"name": "adam", "lr": 1e-4},
    }


def status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def measure(name: str, sizes: dict) -> dict:
    """Predicts, and runs, in this process: {"predicted", "measured"}, bytes."""
    import jax
    import numpy as np

    from dictlearn import experiment, sharding
    from dictlearn.plan import plan
    from dictlearn.types import Batch

    known = config(name, sizes)
    predicted = plan(known, d_in=sizes["d"])["programs"][0]["total"]
    (program,) = experiment.programs(known, sizes["d"], None)
    mesh = sharding.mesh()
    shapes = experiment.abstract_states([program], sizes["d"], None, mesh)[program.key]
    generator = np.random.default_rng(0)
    with jax.set_mesh(mesh):
        x = jax.ShapeDtypeStruct((sizes["batch"], sizes["d"]), np.float32)
        update = experiment.update(program, shapes, mesh)
        step = update.lower(shapes, program.hparams, Batch(x, x)).compile()
        draw = lambda leaf: (generator.standard_normal(leaf.shape) / 16).astype(leaf.dtype)
        make = lambda leaf: jax.device_put(draw(leaf), leaf.sharding)
        jax.block_until_ready(jax.device_put(np.zeros(2**20)))
        before = status("VmRSS")
        state = jax.block_until_ready(jax.tree.map(make, shapes))
        x = jax.block_until_ready(jax.device_put(draw(x)))
        Path("/proc/self/clear_refs").write_text("5")
        for _ in range(3):
            state, _ = jax.block_until_ready(step(state, program.hparams, Batch(x, x)))
    return {"predicted": predicted, "measured": status("VmHWM") - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="topk,batch_topk")
    for size, value in SIZES.items():
        parser.add_argument(f"--{size}", type=int, default=value)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = {size: getattr(given, size) for size in SIZES}
    if given.one:
        print(json.dumps(measure(given.name, sizes)))
        return
    found = {}
    for name in given.name.split(","):
        line = [sys.executable, __file__, f"--name={name}", "--one"]
        line += [f"--{size}={value}" for size, value in sizes.items()]
        done = subprocess.run(line, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        row = found[name] = json.loads(done.stdout.splitlines()[-1])
        error = row["predicted"] / row["measured"] - 1
        mega = {key: f"{value / 1e6:.1f} MB" for key, value in row.items()}
        print(f"{name}: predicted {mega['predicted']}, measured {mega['measured']}, {error:+.1%}")
    if given.json:
        given.json.write_text(json.dumps({"sizes": sizes, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
