"""From the start of a process to the end of its first training step, for ours and for the peers.

    pip install torch==2.13.0 sae-lens==6.54.12 dictionary-learning==0.1.0
    pip install --no-deps eai-sparsify==1.3.3
    python benchmarks/start.py [--cases=topk,matryoshka] [--only=dictlearn,SAELens] [--rounds=3] [--json=FILE]

A process imports its library, makes the dictionary of benchmarks/train.py, takes one step on a batch from a
file and ends. The times are its wall clock and its processor time, medians of the rounds. `bare_jax` is the
least that a user of JAX writes: one jitted step of dense autodiff with optax. `dictlearn train` is a run of
experiments/from_npy.py, one step long, with its checkpoint and its evaluation. Whatever is JAX runs twice in a
round: first with an empty folder of compiled programs, then with those that the first process kept.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import train
from recommended import report

from dictlearn.cli.program_cache import LEAST_SECONDS

COMMAND = "dictlearn train"
KEPT = ("dictlearn", COMMAND, "bare_jax")
DOOR = Path(__file__).parents[1] / "experiments" / "from_npy.py"


def bare_jax(case: dict, x_BD):
    import jax
    import jax.numpy as jnp
    import optax

    d, n, k = case["d"], case["n"], case["k"]
    W_DF = jax.random.normal(jax.random.key(0), (d, n)) / d**0.5
    params = {"W_enc": W_DF, "W_dec": W_DF.T, "b_enc": jnp.zeros(n), "b_dec": jnp.zeros(d)}
    optimizer = optax.adam(1e-4)

    def loss(params, x_BD):
        pre_BF = (x_BD - params["b_dec"]) @ params["W_enc"] + params["b_enc"]
        least_B1 = jax.lax.top_k(pre_BF, k)[0][:, -1:]
        f_BF = jnp.where(pre_BF >= least_B1, pre_BF, 0)
        return jnp.mean((f_BF @ params["W_dec"] + params["b_dec"] - x_BD) ** 2)

    @jax.jit
    def update(params, state, x_BD):
        grads = jax.grad(loss)(params, x_BD)
        changes, state = optimizer.update(grads, state)
        return optax.apply_updates(params, changes), state

    state = optimizer.init(params)
    return lambda: jax.block_until_ready(update(params, state, x_BD))


def serve(name: str, case: dict) -> None:
    """Imports, makes, and takes one step."""
    x_BD = np.load(case["rows"])[: case["batch"]]
    if name in KEPT:
        make = {"dictlearn": train.dictlearn, "bare_jax": bare_jax}[name]
    else:
        from peers import PEERS

        make = PEERS[name]
    make(case, x_BD)()


def command(name: str, case: dict, home: Path) -> list[str]:
    if name != COMMAND:
        return [sys.executable, __file__, "--serve", name, json.dumps(case)]
    sizes = f"kind={case['kind']},n_latents={case['n']},l0={case['k']}"
    once = ("steps=1", f"batch_size={case['batch']}", "evaluate.n_tokens=1024")
    words = [f"--config={DOOR}:{case['rows']},{sizes}", *(f"--config.{each}" for each in once)]
    found = [sys.executable, "-m", "dictlearn.cli", "train", *words]
    return [*found, f"--workdir={tempfile.mkdtemp(dir=home)}"]


def once(name: str, case: dict, home: Path) -> dict[str, float]:
    """Seconds of one process, by wall clock and of processor time; home: where it keeps its programs. Raises
    SystemExit if it fails."""
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "XDG_CACHE_HOME": str(home)}
    if name != COMMAND:  # which has settings of its own
        environment |= {"JAX_COMPILATION_CACHE_DIR": str(home)}
        environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": str(LEAST_SECONDS)}
    before, began = _used(), time.perf_counter()
    ran = subprocess.run(command(name, case, home), capture_output=True, text=True, env=environment)
    wall, cpu = time.perf_counter() - began, _used() - before
    if ran.returncode:
        raise SystemExit(f"{name} ended with {ran.returncode}:\n{ran.stderr[-2000:]}")
    return {"wall": wall, "cpu": cpu}


def _used() -> float:
    """Processor seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rows(args: argparse.Namespace) -> Iterator[dict]:
    there = train.installed(args.only.split(","))
    for title in args.cases.split(","):
        case, found = train.CASES[title], {}
        names = train.having(case["kind"], there)
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory() as folder:
                home = Path(folder)
                np.save(home / "rows.npy", np.tile(train.data(case), (16, 1)))
                own = {**case, "rows": str(home / "rows.npy")}
                for name in names:
                    for kept in (False, True)[: 1 + (name in KEPT)]:
                        found.setdefault((name, kept), []).append(once(name, own, home / name))
        for (name, kept), times in found.items():
            middle = {key: statistics.median(each[key] for each in times) for key in times[0]}
            yield {"case": title, "name": name, "programs kept": kept, **middle}


def main() -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--serve", nargs=2, metavar=("NAME", "CASE"), help=argparse.SUPPRESS)
    parser.add_argument("--cases", default="topk,batch_topk,matryoshka,jumprelu,gated")
    peers = "sparsify,dictionary_learning,SAELens"
    parser.add_argument("--only", default=f"bare_jax,dictlearn,{COMMAND},{peers}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.serve:
        return serve(args.serve[0], json.loads(args.serve[1]))
    report(rows(args), args.json)
    return None


if __name__ == "__main__":
    main()
