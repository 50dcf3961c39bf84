"""Top-k and the sparse rows' operations in every form, and written naively.

    python benchmarks/forms.py [--d=768 --n=12288 --k=32 --batch=2048 --dtype=float32] [--json=FILE]
    python benchmarks/forms.py --topology=v5e:2x2        (with libtpu: compiled for one TPU chip, not run)
    python benchmarks/forms.py --target=FILE             (with jax-cuda12-plugin: compiled for a GPU, not run)

Run, rounds go round all forms and the bound, one encoder matmul `[B, d] x [d, n]`; figures are medians, also in
such matmuls (GEMM-equivalents). `*` marks the form that `dictlearn.ops.backend` names for this backend.
Naive forms are dense (codes scattered into `[B, n]` and a matmul),
einsum (one gather and a contraction) and sorted (one scatter of the products in the order of latents).
Compiled, figures are the compiler's: bytes read and written, operations, seconds (blank where it counts below
zero) and temporary memory. It counts the body of a loop once; for `loop`, `unrolled` and a `gathered` in blocks
its bytes, operations and seconds are multiplied by the turns. FILE describes a GPU as XLA's
`backends/gpu/target_config/specs/*.txtpb` do (without a driver, set JAX_SKIP_CUDA_CONSTRAINTS_CHECK=1); for it
the compiler counts only temporary memory and kernels.
"""

import argparse
import json
import os
import re
import statistics
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from dictlearn.ops.sparse import backend, forms
from dictlearn.ops.topk import exact

KERNEL = re.compile(
    r"^\s*(?:ROOT )?\S+ = .*(?:fusion|custom-call|sort|scatter|gather|copy|convert|dot)\(", re.M
)
"""An instruction of a compiled program that starts a kernel."""


def codes(val_BK, idx_BK, n):
    token_B1 = jnp.arange(len(val_BK))[:, None]
    return jnp.zeros((len(val_BK), n), val_BK.dtype).at[token_B1, idx_BK].add(val_BK)


def add_sorted(val_BK, idx_BK, g_BD, n):
    latent_E = idx_BK.reshape(-1)
    order_E = jnp.argsort(latent_E, stable=True)
    rows_ED = val_BK.reshape(-1)[order_E][:, None] * g_BD[order_E // idx_BK.shape[1]]
    zero_FD = jnp.zeros((n, g_BD.shape[1]), g_BD.dtype)
    return zero_FD.at[latent_E[order_E]].add(rows_ED, indices_are_sorted=True)


def contenders(n: int, k: int) -> dict:
    """{operation: {name: function of its arrays}}, the naive ones first."""
    pick = lambda scores_BF, idx_BK: jnp.take_along_axis(scores_BF, idx_BK, axis=1)
    naive = {
        "top_k": {},
        "rows_sum": {
            "dense": lambda val, idx, W: codes(val, idx, n) @ W,
            "einsum": lambda val, idx, W: jnp.einsum("bk,bkd->bd", val, W[idx]),
        },
        "rows_dot": {
            "dense": lambda g, idx, W: pick(g @ W.T, idx),
            "einsum": lambda g, idx, W: jnp.einsum("bd,bkd->bk", g, W[idx]),
        },
        "rows_add": {
            "dense": lambda val, idx, g: codes(val, idx, n).T @ g,
            "sorted": lambda val, idx, g: add_sorted(val, idx, g, n),
        },
    }
    ours = {
        "top_k": {name: partial(form, mask_F=None, k=k) for name, form in exact.FORMS.items()},
        "rows_sum": forms.SUM,
        "rows_dot": forms.DOT,
        "rows_add": {name: partial(form, n_latents=n) for name, form in forms.ADD.items()},
    }
    return {operation: {**naive[operation], **ours[operation]} for operation in naive}


def shapes(sizes: argparse.Namespace) -> dict:
    """{operation: its arrays as ShapeDtypeStructs}, and the matmul's."""
    array = partial(jax.ShapeDtypeStruct, dtype=jnp.dtype(sizes.dtype))
    val_BK, g_BD = array((sizes.batch, sizes.k)), array((sizes.batch, sizes.d))
    idx_BK, W_FD = jax.ShapeDtypeStruct(val_BK.shape, jnp.int32), array((sizes.n, sizes.d))
    return {
        "matmul": (g_BD, W_FD),
        "top_k": (array((sizes.batch, sizes.n)),),
        "rows_sum": (val_BK, idx_BK, W_FD),
        "rows_dot": (g_BD, idx_BK, W_FD),
        "rows_add": (val_BK, idx_BK, g_BD),
    }


def drawn(shape, key, n: int):
    """Normal values; of indices, k different latents a token."""
    if shape.dtype == jnp.int32:
        score = lambda key: lax.top_k(jax.random.uniform(key, (n,)), shape.shape[1])[1]
        return jax.jit(lambda key: lax.map(score, jax.random.split(key, shape.shape[0])))(key)
    return jax.random.normal(key, shape.shape, shape.dtype)


def run(jobs: dict, arrays: dict, rounds: int) -> dict:
    """Median seconds of each job, {(operation, name): (function, that operation's arrays)}."""
    ready = {job: jax.jit(form) for job, form in jobs.items()}
    times = {job: [] for job in ready}
    for turn in range(rounds + 1):
        for job, form in ready.items():
            start = time.perf_counter()
            jax.block_until_ready(form(*arrays[job[0]]))
            if turn:
                times[job].append(time.perf_counter() - start)
    return {job: statistics.median(taken) for job, taken in times.items()}


def compiled_for(form, arrays, chip):
    place = SingleDeviceSharding(chip)
    placed = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place) for a in arrays]
    return jax.jit(form).lower(*placed).compile()


def count_gpu(form, arrays, target: Path) -> dict:
    """What the compiler for a GPU says of one form."""
    said = {"target_config": target.read_text(), "topology": "1x1x1"}
    chip = topologies.get_topology_desc(platform="cuda", topology_name="", **said).devices[0]
    compiled = compiled_for(form, arrays, chip)
    entry = compiled.as_text().split("ENTRY")[1]
    temporary = compiled.memory_analysis().temp_size_in_bytes / 1e6
    return {"kernels": len(KERNEL.findall(entry)), "temporary_megabytes": temporary}


def count(form, arrays, topology: str, turns: int) -> dict:
    """What the TPU compiler says of one form."""
    chip = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices[0]
    compiled = compiled_for(form, arrays, chip)
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    seconds = cost["optimal_seconds"] * turns
    return {
        "gigabytes": cost["bytes accessed"] * turns / 1e9,
        "gigaoperations": cost.get("flops", 0) * turns / 1e9,
        "milliseconds": seconds * 1e3 if seconds > 0 else None,
        "temporary_megabytes": memory.temp_size_in_bytes / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("d", 768), ("n", 12288), ("k", 32), ("batch", 2048), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--only", help="operations, default all")
    parser.add_argument("--topology", help="compile for a chip of it, and run nothing")
    parser.add_argument("--target", type=Path, help="compile for this GPU, and run nothing")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    if a.topology:
        jax.config.update("jax_platforms", "cpu")
    of = contenders(a.n, a.k)
    jobs = {("matmul", "matmul"): lambda g, W: g @ W.T}
    for operation in a.only.split(",") if a.only else of:
        jobs |= {(operation, name): form for name, form in of[operation].items()}
    wanted = shapes(a)
    sizes = {name: getattr(a, name) for name in ("d", "n", "k", "batch", "dtype")}
    print(", ".join(f"{name} {value}" for name, value in sizes.items()))
    if a.topology:
        blocks = -(-a.batch * a.k * a.d // forms.BLOCK)
        turns = {"loop": a.k, "unrolled": a.k // forms.UNROLL or 1, "gathered": blocks}
        turns = {(o, name): n for o in of for name, n in turns.items()}
        turns["rows_sum", "loop"] = a.k // forms.TURN or 1
        rows = {
            job: count(form, wanted[job[0]], a.topology, turns.get(job, 1))
            for job, form in jobs.items()
        }
        header = ("GB", "Gop", "ms", "temporary MB")
    elif a.target:
        rows = {job: count_gpu(form, wanted[job[0]], a.target) for job, form in jobs.items()}
        header = ("kernels", "temporary MB")
    else:
        keys = iter(jax.random.split(jax.random.key(0), 32))
        arrays = {
            o: [drawn(s, next(keys), a.n) for s in wanted[o]] for o in {job[0] for job in jobs}
        }
        seconds = run(jobs, arrays, a.rounds)
        bound = seconds["matmul", "matmul"]
        rows = {j: {"ms": s * 1e3, "gemm_equivalents": s / bound} for j, s in seconds.items()}
        header = ("ms", "GEMM-equivalents")
    here = {"gpu": "cuda"}.get(jax.default_backend(), "cpu")
    platform = "tpu" if a.topology else "cuda" if a.target else here
    print(f"| | | {' | '.join(header)} |\n|---|---|{'---|' * len(header)}")
    for (operation, name), row in rows.items():
        mark = "*" if backend.FORMS.get(operation, {}).get(platform) == name else ""
        figures = " | ".join("" if x is None else f"{x:.3g}" for x in row.values())
        print(f"| {operation} | {name}{mark} | {figures} |", flush=True)
    if a.json:
        where = a.topology or str(a.target or jax.devices()[0].device_kind)
        table = {f"{operation} {name}": row for (operation, name), row in rows.items()}
        record = {"device": where, "sizes": sizes, "jax": jax.__version__, "rows": table}
        a.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
