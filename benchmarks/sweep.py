"""A sweep of twelve dictionaries (4 values of k, 3 learning rates), single runs, and the peers' twelve.

    pip install torch==2.13.0 sae-lens==6.54.12 dictionary-learning==0.1.0
    pip install --no-deps eai-sparsify==1.3.3
    python benchmarks/sweep.py [--cases=small,topk] [--rounds=5] [--only=NAME,NAME] [--json=FILE]

sweep: ours, all twelve as the one program that `dictlearn train` makes of such a config. alone: ours without a
sweep, a program for each k. dictionary_learning: its `trainSAE` steps all trainers of a list on one batch, so
twelve of its trainers. SAELens and sparsify train one dictionary a run: one after another, each k built, warmed
up and stepped, never two at once. The learning rate does not affect the time, so peers keep their own, and runs
without a sweep are one for each k. Everything is on, as in train.py, which has the steps and says what a
contender, a round and a GEMM-equivalent are; times are per dictionary.
"""

import argparse
import gc
import importlib
import json
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

from train import MODULES, data, hear, installed, matmul, start

KS, RATES = (8, 16, 32, 64), (1e-4, 2e-4, 4e-4)
CASES = {
    "small": {"kind": "topk", "d": 512, "n": 4096, "k": 32, "batch": 4096},
    "topk": {"kind": "topk", "d": 768, "n": 12288, "k": 32, "batch": 2048},
}
OURS, PEERS = ("sweep", "alone"), ("sparsify", "dictionary_learning", "SAELens")


def program(case: dict, x_BD, swept: dict, k: int | None):
    """A step of the program that the config makes, swept over `swept` or with this one k."""
    import jax

    from dictlearn import experiment, sharding
    from dictlearn.types import Batch

    alone = {} if swept else {"k": k}
    alone["aux_k"] = min(case["d"] // 2, case["n"])
    config = {
        **{"seed": 0, "steps": 10**6, "batch_size": case["batch"], "sweep": swept},
        "dictionary": {"name": "topk", "n_latents": case["n"], **alone},
        "rule": {"name": "adam"},
    }
    mesh = sharding.mesh()
    with jax.set_mesh(mesh):
        (made,) = experiment.programs(config, case["d"], None)
        batch = Batch(x_BD, x_BD)
        held = [experiment.init(made, batch, mesh)]
        update = experiment.update(made, held[0], mesh)

    def step():
        with jax.set_mesh(mesh):
            held[0], info = update(held[0], made.hparams, batch)
        jax.block_until_ready((held, info))

    return step


def timed(step, n: int = 1) -> tuple[float, float]:
    """Wall-clock and processor seconds of one of `n` dictionaries."""
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return (time.perf_counter() - wall) / n, (time.process_time() - cpu) / n


def passes(name: str, case: dict, x_BD):
    """A function that times one pass over what the contender trains: per dictionary, (wall, cpu)."""
    if name in ("matmul", *OURS):
        import jax

        x_BD = jax.numpy.asarray(x_BD)
    if name == "matmul":
        multiply = matmul(case, x_BD)
        return lambda: timed(multiply)
    if name == "sweep":
        step = program(case, x_BD, {"k": KS, "lr": RATES}, None)
        return lambda: timed(step, len(KS) * len(RATES))
    if name == "alone":
        steps = [program(case, x_BD, {}, k) for k in KS]
        return lambda: mean([timed(step) for step in steps])
    from peers import PEERS as MAKE

    if name == "dictionary_learning":
        trainers = [MAKE[name]({**case, "k": k}, x_BD) for k in KS for _ in RATES]
        return lambda: timed(lambda: [step() for step in trainers], len(trainers))

    def one(k: int):
        step = MAKE[name]({**case, "k": k}, x_BD)
        step()
        found = timed(step)
        del step
        gc.collect()
        return found

    return lambda: mean([one(k) for k in KS])


def mean(pairs: list) -> tuple[float, float]:
    wall, cpu = zip(*pairs, strict=True)
    return statistics.mean(wall), statistics.mean(cpu)


def serve(name: str, case: dict) -> None:
    """Answers every line on stdin with the seconds of one pass."""
    importlib.import_module(MODULES.get(name, "dictlearn"))
    if name in ("matmul", *OURS):
        import jax

        jax.config.update("jax_platforms", jax.default_backend())
    x_BD = data(case)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    take = passes(name, case, x_BD)
    take()
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        wall, cpu = take()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"wall": wall, "cpu": cpu, "mib": (peak - base) / 1024}), flush=True)


def measure(case: dict, names: list[str], rounds: int) -> dict:
    processes, found = {}, {name: [] for name in names}
    for name in names:
        processes[name] = start(name, case, __file__)
        hear(name, processes[name])
    for _ in range(rounds):
        for name, process in processes.items():
            process.stdin.write("\n")
            process.stdin.flush()
            found[name].append(hear(name, process))
    for process in processes.values():
        process.communicate()
    middle = lambda name, key: statistics.median(row[key] for row in found[name])
    rows = {
        name: {
            "seconds_per_dictionary": middle(name, "wall"),
            "gemm_equivalents": middle(name, "wall") / middle("matmul", "wall"),
            "gemm_equivalents_cpu": middle(name, "cpu") / middle("matmul", "cpu"),
            "peak_mib": found[name][-1]["mib"],
        }
        for name in names
    }
    times = {
        f"{name} over sweep{unit}": row[key] / rows["sweep"][key]
        for unit, key in (("", "seconds_per_dictionary"), (", CPU", "gemm_equivalents_cpu"))
        for name, row in rows.items()
        if name not in ("matmul", "sweep") and "sweep" in rows
    }
    return {"rows": rows, "times": times}


def tell(title: str, case: dict, found: dict) -> None:
    sizes = ", ".join(f"{name} {value}" for name, value in case.items() if name != "k")
    print(f"\n{title}: {sizes}, k {KS}, {len(RATES)} learning rates; per dictionary")
    print("| | seconds | GEMM-eq | of CPU time | peak MiB |\n|---|---|---|---|---|")
    by_time = lambda item: item[1]["seconds_per_dictionary"]
    for name, row in sorted(found["rows"].items(), key=by_time):
        ratios = f"{row['gemm_equivalents']:.2f} | {row['gemm_equivalents_cpu']:.2f}"
        print(
            f"| {name} | {row['seconds_per_dictionary']:.3f} | {ratios} | {row['peak_mib']:.0f} |"
        )
    for name, ratio in found["times"].items():
        print(f"{name}: {ratio:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", nargs=2, metavar=("NAME", "CASE"), help=argparse.SUPPRESS)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--only", default=",".join((*OURS, *PEERS)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--shrink", type=int, default=1, help="divides n and the batch, for a trial"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve[0], json.loads(arguments.serve[1]))
    there, found = installed(arguments.only.split(",")), {}
    for title in arguments.cases.split(","):
        case = dict(CASES[title])
        case |= {name: case[name] // arguments.shrink for name in ("n", "batch")}
        found[title] = {"case": case, **measure(case, ["matmul", *there], arguments.rounds)}
        tell(title, case, found[title])
    if arguments.json:
        machine = {"platform": platform.platform(), "python": platform.python_version()}
        record = {"date": time.strftime("%Y-%m-%d"), "machine": machine, "cases": found}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
