"""A long run from a language model, interrupted and resumed, as a soak; a peer on the same tokens.

    pip install torch==2.13.0 sae-lens==6.54.12 dictionary-learning==0.1.0
    python benchmarks/long_run.py [--tokens=5000000] [--n_latents=4608] [--l0=32] [--batch=2048]
        [--peers=dictionary_learning] [--workdir=runs/long] [--json=FILE]

`dictlearn train` reads SmolLM2's residual stream after block 9 by `from_lm`, without a store, with recommended
settings. At each of MARKS, the shares of the run, its process is stopped, by SIGTERM and SIGKILL in turn, its
newest checkpoint is measured, and it is started again. The table has the tokens seen, FVU, L0 and dead
latents on HELD_OUT tokens of documents that are not trained on. The peers read a store of the same recipe for
as many tokens, in batches of the same size, and are measured at the same marks.

Memory is the resident set of the process, once a second. Flat is what the last uninterrupted stretch says: the
largest of its second half over the largest of its first half, after SETTLE of it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import quality
from recommended import HELD_OUT, Run, measured, report, run_of

from dictlearn import lm, normalise, streams
from dictlearn.runs.trained import of_run, restore_run
from dictlearn.streams.from_lm import from_lm

MARKS = (0.02, 0.05, 0.1, 0.2, 0.4)
SETTLE = 0.2
RECIPE = {"taps": "resid.9", "text": "wiki"}
CONFIG = """
from ml_collections import ConfigDict

from dictlearn import recommended


def get_config(arg=""):
    config = ConfigDict(recommended("topk", d_in=576, batch_size={batch}, **{sizes}))
    config.seed, config.log_every, config.checkpoint_every = 0, 10, {every}
    config.model = {{"name": "smollm2"}}
    config.harvest = {recipe}
    config.stream = {{"name": "from_lm", **config.stream}}
    return config
"""


def command(verb: str, home: Path) -> list[str]:
    found = [sys.executable, "-m", "dictlearn.cli", verb]
    return [*found, f"--config={home / 'config.py'}", f"--workdir={home / 'run'}"]


def resident(process: subprocess.Popen) -> float:
    """MiB; 0 where the process has ended."""
    try:
        said = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0.0
    rows = [line.split()[1] for line in said.splitlines() if line.startswith("VmRSS")]
    return int(rows[0]) / 1024 if rows else 0.0


def reached(home: Path) -> int:
    """The last step that the run has logged."""
    path = home / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}")]
    return max(steps, default=0)


def stretch(home: Path, until: float, number: int, steps: int) -> list[float]:
    """Runs until the step `until` is logged, then stops the process; what was resident in it while it trained,
    by second."""
    held = []
    with (home / "log.txt").open("a") as log:
        process = subprocess.Popen(command("train", home), stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(1)
            step = reached(home)
            if step < steps:
                held.append(resident(process))
            if step >= until:
                process.send_signal((signal.SIGTERM, signal.SIGKILL)[number % 2])
                process.wait()
    if until == np.inf and process.returncode:
        raise SystemExit(f"the run ended with {process.returncode}; see {home / 'log.txt'}.")
    return [each for each in held if each]


def flat(held: list[float]) -> float:
    late = held[round(SETTLE * len(held)) :]
    return max(late[len(late) // 2 :]) / max(late[: len(late) // 2])


def scaled(norm: normalise.Norm, held_BD: np.ndarray) -> np.ndarray:
    return np.asarray(normalise.forward(norm, held_BD)[0])


def soak(home: Path, args: argparse.Namespace, held_BD: np.ndarray) -> Iterator[dict]:
    """Our rows, and at last one of what was resident and how long it took."""
    started, first, steps = time.perf_counter(), 0, args.tokens // args.batch
    for number, mark in enumerate((*MARKS, np.inf)):
        held = stretch(home, mark * steps, number, steps)
        run = restore_run(home / "run")
        (one,), told = of_run(run), {"name": quality.OURS, "tokens": run.step * args.batch}
        print(f"# from step {first} to {run.step}: {max(held):.0f} MiB at most", flush=True)
        yield {**told, **measured(run_of(one), scaled(one.norm, held_BD))}
        first = run.step
    seconds = time.perf_counter() - started
    told = {"stretch_s": len(held), "resident_MiB": max(held), "flat": flat(held)}
    yield {"name": "memory", "seconds": seconds, **told}


def peer(name: str, home: Path, args: argparse.Namespace, held_BD: np.ndarray) -> Iterator[dict]:
    settings = {"path": home / "run" / "activations", "batch_size": args.batch, "seed": 0}
    stream = streams.make("store", **settings, normalise="mean_norm_sqrt_d")
    found, steps = [], args.tokens // args.batch
    at = {round(mark * steps) for mark in MARKS}
    scaled_BD = scaled(stream.norm, held_BD)

    def watch(step: int, run: Callable[[], Run]) -> None:
        if step in at:
            found.append({"tokens": step * args.batch, **measured(run(), scaled_BD)})

    last = quality.PEERS[name](quality.Cell("topk", name, 1.0, 0), args, stream, watch)
    found.append({"tokens": steps * args.batch, **measured(last, scaled_BD)})
    yield from ({"name": name, **row} for row in found)


def rows(args: argparse.Namespace) -> Iterator[dict]:
    home, steps = args.workdir.resolve(), args.tokens // args.batch
    home.mkdir(parents=True, exist_ok=True)
    source = from_lm(lm.load("smollm2"), RECIPE, batch_size=args.batch, seed=0)
    assert source.held_out is not None
    assert source.n_rows is not None
    held_BD = np.concatenate([source.held_out[t].x_BD for t in range(HELD_OUT // args.batch)])
    recipe = RECIPE | ({"n_tokens": args.tokens} if args.tokens < source.n_rows else {})
    sizes = {"n_latents": args.n_latents, "tokens": args.tokens, "l0": args.l0}
    known = {"batch": args.batch, "sizes": sizes, "every": max(1, steps // 50), "recipe": recipe}
    (home / "config.py").write_text(CONFIG.format(**known))
    yield from soak(home, args, held_BD)
    if args.peers:
        subprocess.run(command("harvest", home), check=True, stdout=subprocess.DEVNULL)
    for name in filter(None, args.peers.split(",")):
        yield from peer(name, home, args, held_BD)


def main() -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=5_000_000)
    parser.add_argument("--n_latents", type=int, default=4608)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--l0", type=float, default=32)
    parser.add_argument("--peers", default="dictionary_learning")
    parser.add_argument("--workdir", type=Path, default=Path("runs/long"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    report(rows(args), args.json)


if __name__ == "__main__":
    main()
