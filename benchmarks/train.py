"""Our training steps and the PyTorch peers', in units of encoder matmuls.

    pip install torch==2.13.0 sae-lens==6.54.12 dictionary-learning==0.1.0
    pip install --no-deps eai-sparsify==1.3.3
    python benchmarks/train.py [--cases=topk,aux] [--rounds=7] [--only=dictlearn,sparsify] [--json=FILE]
                               [--store=runs/quickstart/activations] [--per_latent]

Every contender is a separate process that holds the same batch. A round runs a window of a few steps of each,
and the bound: one encoder matmul `[B, d] x [d, n]` of those sizes in XLA. A GEMM-equivalent is a step's median
over the matmul's. Ours is the recommended dictionary with everything on: counters of dead latents, AuxK armed,
projection, clipping, Adam, unit norm. Memory is the process's peak over that of its imports, or the device's
where the case names one (benchmarks/gpu.py). Peers that are not installed are left out. The data are sparse
sums of 4 d unit directions, or activations of a store, whose width is then d; thresholds start so that k
latents are active. Where the number of active latents varies, WARM steps go first, because at a random start a
few tokens have most of them.
"""

import argparse
import importlib
import importlib.util
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZES = {"d": 768, "n": 12288, "k": 32, "batch": 2048}
CASES = {
    "topk": {"kind": "topk", **SIZES},
    "small": {"kind": "topk", "d": 512, "n": 4096, "k": 32, "batch": 4096},
    "wide": {"kind": "topk", "d": 768, "n": 49152, "k": 32, "batch": 1024},
    "aux": {"kind": "topk", "dead": 0.1, **SIZES},
    "batch_topk": {"kind": "batch_topk", **SIZES},
    "matryoshka": {"kind": "matryoshka", **SIZES},
    "jumprelu": {"kind": "jumprelu", **SIZES},
    "gated": {"kind": "gated", **SIZES},
}
WARM = 30
OURS = ("matmul", "dictlearn")
TOPK_ALONE = ("sparsify", "bare_jax")
MODULES = {
    "sparsify": "sparsify",
    "sparsify_compiled": "sparsify",
    "dictionary_learning": "dictionary_learning",
    "SAELens": "sae_lens",
}


def data(case: dict) -> np.ndarray:
    if "store" in case:
        from dictlearn.streams.store import store

        x_BD = store(case["store"], batch_size=case["batch"], seed=0).batch(0).x_BD
        return np.asarray(x_BD / np.sqrt((x_BD**2).sum(1).mean()), np.float32)
    rng = np.random.default_rng(0)
    atoms_ND = rng.standard_normal((4 * case["d"], case["d"]), dtype=np.float32)
    atoms_ND /= np.linalg.norm(atoms_ND, axis=1, keepdims=True)
    codes_BN = rng.exponential(size=(case["batch"], len(atoms_ND))).astype(np.float32)
    codes_BN *= rng.random(codes_BN.shape) < case["k"] / len(atoms_ND)
    x_BD = codes_BN @ atoms_ND + 0.05 * rng.standard_normal((case["batch"], case["d"]))
    return (x_BD / np.sqrt((x_BD**2).sum(1).mean())).astype(np.float32)


def matmul(case: dict, x_BD):
    import jax

    dtype = case.get("dtype", "float32")
    W_FD = jax.random.normal(jax.random.key(1), (case["n"], case["d"]), dtype)
    multiply, x_BD = jax.jit(lambda x, W: x @ W.T), jax.numpy.asarray(x_BD, dtype)
    return lambda: jax.block_until_ready(multiply(x_BD, W_FD))


def dictlearn(case: dict, x_BD):
    import jax
    import jax.numpy as jnp

    from dictlearn import dictionaries, objectives, recommended, rules
    from dictlearn.learners.gradient import gradient
    from dictlearn.types import Batch

    d, n, k, kind = case["d"], case["n"], case["k"], case["kind"]
    sizes = {"n_latents": n, "tokens": 10**6, "batch_size": case["batch"], "l0": float(k)}
    fields = recommended(kind, d_in=d, **sizes)["dictionary"]
    if "density_start" in fields:
        fields["density_start"] = k / n
    x_BD = x_BD * d**0.5  # as mean_norm_sqrt_d does
    module = dictionaries.make(**fields, d_in=d)
    learner = gradient(
        module,
        objectives.make("fvu"),
        rules.make("adam", lr=1e-4, steps=10**6, per_latent=case.get("per_latent", False)),
        compute_dtype=case.get("dtype", "float32"),
    )
    batch = Batch(jnp.asarray(x_BD), jnp.asarray(x_BD))
    state = jax.jit(learner.init)(jax.random.key(0), batch)
    params, silent_F = state.variables["params"], state.silent_F
    off = round(case.get("dead", 0) * n)
    if off:
        params = {**params, "b_enc_F": params["b_enc_F"].at[:off].set(-1e3)}
        silent_F = silent_F.at[:off].set(2**30)
    state = state._replace(variables={**state.variables, "params": params}, silent_F=silent_F)
    update, held = jax.jit(learner.update, donate_argnums=0), [state]

    def step():
        held[0], info = update(held[0], batch)
        return {name: float(value) for name, value in jax.block_until_ready(info).items()}

    return step


def peak(name: str, case: dict) -> float:
    """MiB that were held at most, by the process or on the device that the case names."""
    if "device" not in case:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if name in OURS:
        import jax

        return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


def serve(name: str, case: dict) -> None:
    """Answers every line on stdin with the seconds of a window of steps, `case["steps"]` long."""
    if name in OURS:
        import jax

        jax.config.update("jax_platforms", jax.default_backend())
        make = {of.__name__: of for of in (matmul, dictlearn)}[name]
    else:
        from peers import PEERS

        make = PEERS[name]
    importlib.import_module(MODULES.get(name, "dictlearn.experiment.recommended"))
    x_BD = data(case)
    base = peak(name, case)
    step = make(case, x_BD)
    for _ in range(2 if case["kind"] == "topk" else WARM):
        info = step()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        times, used = [], []
        for _ in range(json.loads(line)):
            wall, cpu = time.perf_counter(), time.process_time()
            info = step()
            times.append(time.perf_counter() - wall)
            used.append(time.process_time() - cpu)
        info = info if isinstance(info, dict) else {}
        found = {"wall": times, "cpu": used, "mib": peak(name, case) - base, "info": info}
        print(json.dumps(found), flush=True)


def start(name: str, case: dict, script: str = __file__) -> subprocess.Popen:
    """A contender's process. What it says on stderr is kept, for `hear` to tell if it ends."""
    command = [sys.executable, script, "--serve", name, json.dumps(case)]
    handle, path = tempfile.mkstemp()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": handle}
    process = subprocess.Popen(command, text=True, **pipes)
    process.said = Path(path)
    return process


def hear(name: str, process: subprocess.Popen) -> dict:
    """Its next line of JSON; peers print other lines too."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    code = process.wait()
    raise SystemExit(
        f"{name} ended with {code} before it had answered:\n{process.said.read_text()[-2000:]}"
    )


def measure(case: dict, names: list[str], rounds: int, steps: int) -> dict:
    processes = {name: start(name, case) for name in names}
    for name, process in processes.items():
        hear(name, process)
    wall, cpu = ({name: [] for name in names} for _ in range(2))
    last = {}
    for _ in range(rounds):
        for name, process in processes.items():
            assert process.stdin is not None
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
            last[name] = hear(name, process)
            wall[name] += last[name]["wall"]
            cpu[name] += last[name]["cpu"]
    for process in processes.values():
        process.communicate()
    bound, spent = statistics.median(wall["matmul"]), statistics.median(cpu["matmul"])
    return {
        name: {
            "seconds": (middle := statistics.median(wall[name])),
            "tokens_per_second": case["batch"] / middle,
            "gemm_equivalents": middle / bound,
            "gemm_equivalents_cpu": statistics.median(cpu[name]) / spent,
            "peak_mib": last[name]["mib"],
            "l0": last[name]["info"].get("l0"),
        }
        for name in names
    }


def tell(title: str, case: dict, rows: dict) -> None:
    sizes = ", ".join(f"{name} {value}" for name, value in case.items())
    print(f"\n{title}: {sizes}\n| | seconds | tokens/s | GEMM-eq | of CPU time | peak MiB |")
    print("|---|---|---|---|---|---|")
    for name, row in sorted(rows.items(), key=lambda item: item[1]["seconds"]):
        counts = f"{row['seconds']:.3f} | {row['tokens_per_second']:.0f}"
        ratios = f"{row['gemm_equivalents']:.2f} | {row['gemm_equivalents_cpu']:.2f}"
        print(f"| {name} | {counts} | {ratios} | {row['peak_mib']:.0f} |", flush=True)


def installed(names: list[str]) -> list[str]:
    """The names that can be run here; prints the others."""
    there = [
        name for name in names if name not in MODULES or importlib.util.find_spec(MODULES[name])
    ]
    for name in set(names) - set(there):
        print(f"{name} is not installed and is left out.")
    return there


def having(kind: str, names: list[str]) -> list[str]:
    """The names of those that train this kind; some train TopK alone."""
    return [name for name in names if kind == "topk" or not name.startswith(TOPK_ALONE)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", nargs=2, metavar=("NAME", "CASE"), help=argparse.SUPPRESS)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--only", default="dictlearn,sparsify,dictionary_learning,SAELens")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="of a window")
    parser.add_argument("--store", help="activations to train on, instead of made-up ones")
    parser.add_argument("--per_latent", action="store_true", help="ours with `adam`'s `per_latent`")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve[0], json.loads(arguments.serve[1]))
    there, found = installed(arguments.only.split(",")), {}
    for title in arguments.cases.split(","):
        case = CASES[title]
        if arguments.per_latent:
            case = {**case, "per_latent": True}
        if arguments.store:
            case = {**case, "store": arguments.store}
            case["d"] = data(case).shape[1]
        names = ["matmul", *having(case["kind"], there)]
        found[title] = measure(case, names, arguments.rounds, arguments.steps)
        tell(title, case, found[title])
    if arguments.json:
        machine = {"platform": platform.platform(), "python": platform.python_version()}
        when = time.strftime("%Y-%m-%d")
        record = {"date": when, "machine": machine, "cases": found}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
