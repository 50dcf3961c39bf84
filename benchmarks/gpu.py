"""Training steps on an accelerator: ours, and sparsify's in Triton and through torch.compile.

    pip install 'jax[cuda12]==0.10.2' torch==2.13.0 && pip install --no-deps eai-sparsify==1.3.3
    python benchmarks/gpu.py [--cases=topk,wide,large] [--rounds=7] [--only=dictlearn] [--json=FILE]

Contenders and rounds are as in benchmarks/train.py. Each contender is a process, and the one device holds all
at once. Parameters, moments and gradients of `large` are 17 GB a contender; `--only` takes fewer. bfloat16
computation, float32 state. The peers run on NVIDIA alone. Utilisation counts the operations of the model,
2 B d (n + 4 k). These are the encoder's product, the decoder, and the gradients of values, atoms and encoder
rows at k latents a token. Additional products of a step are not credited. The peak is the device's dense
bfloat16 rate, from the makers' data sheets.
"""

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # contenders share the device

import jax
import train

PEAK = {
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}
CASES = {
    "topk": {"d": 768, "n": 12288, "k": 32, "batch": 2048},
    "wide": {"d": 768, "n": 49152, "k": 32, "batch": 1024},
    "large": {"d": 4096, "n": 131072, "k": 64, "batch": 8192},
}
NVIDIA = ("sparsify", "sparsify_compiled")


def peak(kind: str) -> float:
    """Operations a second of a kind of device, as JAX names it."""
    for name, rate in PEAK.items():
        if name in kind:
            return rate
    raise SystemExit(
        f"unknown accelerator {kind!r}: give --peak, its dense bfloat16 operations a second."
    )


def utilisation(case: dict, seconds: float, rate: float) -> float:
    return 2 * case["batch"] * case["d"] * (case["n"] + 4 * case["k"]) / seconds / rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--only", default="dictlearn,sparsify,sparsify_compiled")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="of a window")
    parser.add_argument("--peak", type=float, help="operations a second of an unknown device")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = jax.devices()[0]
    if device.platform == "cpu":
        raise SystemExit(f"no accelerator: jax {jax.__version__} finds {jax.devices()}.")
    rate = arguments.peak or peak(device.device_kind)
    names = train.installed(arguments.only.split(","))
    if device.platform != "gpu":
        names = [name for name in names if name not in NVIDIA]
    on = {
        "kind": "topk",
        "dtype": "bfloat16",
        "device": {"gpu": "cuda"}.get(device.platform, device.platform),
    }
    found = {}
    for title in arguments.cases.split(","):
        case = {**CASES[title], **on}
        rows = train.measure(case, ["matmul", *names], arguments.rounds, arguments.steps)
        train.tell(title, case, rows)
        for name in names:
            rows[name]["utilisation"] = utilisation(case, rows[name]["seconds"], rate)
            print(f"{name}: {rows[name]['utilisation']:.1%} of {rate:.3g} operations a second")
        found[title] = rows
    if arguments.json:
        record = {"date": time.strftime("%Y-%m-%d"), "device": device.device_kind, "cases": found}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
