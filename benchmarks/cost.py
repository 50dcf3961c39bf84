"""The growth of a TopK training step's cost: with latents, with k, with the batch, and over devices.

    python benchmarks/cost.py [--rounds=5] [--figure=docs/cost.png] [--json=FILE]

Time: the step with everything on, on data in memory, at d 768, 8192 latents, k 32 and 2048 tokens, and at other
values of one of the three. Every round takes all points in turn. The results are medians of the wall clock and
of processor time, and the straight line a + b x through each row of points with its largest deviation. So is
the slope of their logarithms: 1 is proportional, less if a part of the step does not grow (Adam is the same for
any batch).

Devices: host devices share the machine's cores, so times would be meaningless. Instead the step is compiled for
1, 2, 4 and 8 devices along the data and the model axis. The results are XLA's counts for one device:
floating-point operations, bytes read and written (one iteration of a loop over k), bytes of its memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dictlearn import experiment, sharding
from dictlearn.types import Batch

BASE = {"latents": 8192, "k": 32, "batch": 2048}
ROWS = {
    "latents": (4096, 8192, 16384, 32768),
    "k": (8, 16, 32, 64, 128),
    "batch": (512, 1024, 2048, 4096),
}
DEVICES = (1, 2, 4, 8)
COUNTED = ("flops", "bytes accessed")


def program(d: int, point: dict) -> experiment.Program:
    fields = {"n_latents": point["latents"], "k": point["k"], "aux_k": d // 2}
    config = {
        **{"seed": 0, "steps": 10**6, "batch_size": point["batch"]},
        **{"dictionary": {"name": "topk", **fields}, "rule": {"name": "adam"}},
    }
    (made,) = experiment.programs(config, d, None)
    return made


def stepping(d: int, point: dict):
    """A function that takes one step and gives its seconds: (wall, cpu)."""
    mesh, made = sharding.mesh(), program(d, point)
    x_BD = jax.random.normal(jax.random.key(0), (point["batch"], d))
    batch = Batch(x_BD, x_BD)
    with jax.set_mesh(mesh):
        held = [experiment.init(made, batch, mesh)]
        update = experiment.update(made, held[0], mesh)

    def step() -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        with jax.set_mesh(mesh):
            held[0], info = update(held[0], made.hparams, batch)
        jax.block_until_ready((held, info))
        return time.perf_counter() - wall, time.process_time() - cpu

    step()
    return step


def growth(values, seconds) -> dict:
    """The slope of the logarithms, and the straight line with its largest relative deviation."""
    x, y = np.asarray(values, float), np.asarray(seconds)
    b, a = np.polyfit(x, y, 1, w=1 / y)
    return {
        "slope": float(np.polyfit(np.log(x), np.log(y), 1)[0]),
        "line": {"a": float(a), "b": float(b)},
        "largest_deviation": float(np.abs((a + b * x) / y - 1).max()),
    }


def times(d: int, rounds: int, shrink: int) -> dict:
    small = lambda name, value: value if name == "k" else value // shrink
    points = {
        (row, value): {**{n: small(n, v) for n, v in BASE.items()}, row: small(row, value)}
        for row, values in ROWS.items()
        for value in values
    }
    keys = {key: tuple(point.values()) for key, point in points.items()}
    steps = {
        sizes: stepping(d, points[key])
        for sizes, key in {sizes: key for key, sizes in keys.items()}.items()
    }
    taken = {sizes: [] for sizes in steps}
    for _ in range(rounds):
        for sizes, step in steps.items():
            taken[sizes].append(step())
    found = {}
    for row, values in ROWS.items():
        of = [taken[keys[row, value]] for value in values]
        wall, cpu = ([statistics.median(pair[i] for pair in pairs) for pairs in of] for i in (0, 1))
        values = [points[row, value][row] for value in values]
        found[row] = {"values": values, "seconds": wall, "cpu_seconds": cpu}
        found[row] |= {"wall": growth(values, wall), "cpu": growth(values, cpu)}
    return found


def devices(d: int, shrink: int) -> dict:
    """By axis, what XLA counts for one of each number of devices."""
    sizes = {**BASE, "latents": BASE["latents"] // shrink, "batch": BASE["batch"] // shrink}
    found = {}
    for axis in ("data", "model"):
        rows = []
        for n in DEVICES:
            mesh = sharding.local_mesh(n, n if axis == "model" else 1)
            with jax.set_mesh(mesh):
                made = program(d, sizes)
                state = experiment.abstract_states([made], d, None, mesh)[made.key]
                x_BD = jax.ShapeDtypeStruct((sizes["batch"], d), jnp.float32)
                placed = sharding.shardings(Batch(x_BD, None), mesh).x_BD
                x_BD = jax.ShapeDtypeStruct(x_BD.shape, x_BD.dtype, sharding=placed)
                lowered = experiment.update(made, state, mesh).lower(
                    state, made.hparams, Batch(x_BD, x_BD)
                )
                compiled = lowered.compile()
            memory = compiled.memory_analysis()
            rows.append({"devices": n} | {name: compiled.cost_analysis()[name] for name in COUNTED})
            rows[-1]["memory"] = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        found[axis] = rows
    return found


def draw(found: dict, path: Path) -> None:
    figure = Figure(figsize=(12, 3.2), dpi=160, layout="constrained")
    *panels, last = figure.subplots(1, 4)
    for axes, (row, of) in zip(panels, found["time"].items(), strict=True):
        x = np.geomspace(of["values"][0], of["values"][-1], 50)
        for kind, key, colour, what in (
            ("cpu", "cpu_seconds", "#b5b5b5", "processor time"),
            ("wall", "seconds", "#31688e", "wall clock"),
        ):
            line, label = of[kind]["line"], f"{what}, slope {of[kind]['slope']:.2f}"
            axes.plot(of["values"], of[key], "o", color=colour, label=label)
            axes.plot(x, line["a"] + line["b"] * x, color=colour, linewidth=1)
        axes.set_xlabel(row)
        _logarithmic(axes, of["values"])
        axes.legend(fontsize=7, frameon=False)
    panels[0].set_ylabel("seconds a step")
    styles = {"data": "-", "model": "--"}
    colours = {"flops": "#31688e", "bytes accessed": "#e08e2b", "memory": "#7a5195"}
    for axis, rows in found["devices"].items():
        for name, colour in colours.items():
            share = [row[name] / rows[0][name] for row in rows]
            label = f"{name}, {axis} axis"
            last.plot(DEVICES, share, styles[axis], color=colour, marker=".", label=label)
    last.plot(DEVICES, [1 / n for n in DEVICES], ":", color="#b5b5b5", label="1 / devices")
    last.set_xlabel("devices")
    last.set_ylabel("of one device, times one alone")
    _logarithmic(last, DEVICES)
    last.legend(fontsize=6, frameon=False)
    figure.savefig(path)


def _logarithmic(axes, values) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(values, values)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.2g}"))
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--shrink", type=int, default=1, help="divides latents and batch, for a trial"
    )
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--devices", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.devices:  # in a process of its own: devices are counted when JAX starts
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", max(DEVICES))
        print(json.dumps(devices(a.d, a.shrink)))
        return
    command = [sys.executable, __file__, "--devices", f"--d={a.d}", f"--shrink={a.shrink}"]
    counted = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    found = {
        "versions": {"jax": jax.__version__, "backend": jax.default_backend()},
        "d": a.d,
        "base": BASE,
        "time": times(a.d, a.rounds, a.shrink),
        "devices": json.loads(counted),
    }
    for row, of in found["time"].items():
        at = ", ".join(f"{v}: {s:.3f}" for v, s in zip(of["values"], of["seconds"], strict=True))
        fits = "; ".join(
            f"{kind} slope {of[kind]['slope']:.2f}, line within {of[kind]['largest_deviation']:.0%}"
            for kind in ("wall", "cpu")
        )
        print(f"{row}: seconds {at}; {fits}")
    for axis, rows in found["devices"].items():
        for row in rows:
            print(axis, row)
    if a.figure:
        draw(found, a.figure)
    if a.json:
        a.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
