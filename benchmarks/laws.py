"""How often the bootstrap intervals of every scaling law contain the truth, at 1 % of noise.

    python benchmarks/laws.py [--draws=200] [--only=NAME,NAME] [--json=FILE]

Each law's example is planted on twelve points of one input or on a grid of 5 x 6, with one seed a cell and
log-normal noise. Intervals are 5-95 % from 100 bootstrap samples. `parameters` is the share of draws whose
interval contains the planted parameter, and `worst` that of the parameter with the smallest share. `curve` is
the same for the loss at the points of the grid. The table in docs/scaling.md is this command's.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from dictlearn.scaling import laws
from dictlearn.scaling.fit import bootstrap, fit
from dictlearn.scaling.law import Law, log_loss

RANGES = {"n": (2**11, 2**19), "k": (4, 128), "tokens": (1e6, 1e9), "compute": (1e-6, 1)}
SIZES = {1: (12,), 2: (5, 6)}
NOISE, SAMPLES = 0.01, 100


def measured(law: Law, draws: int) -> dict[str, float]:
    """The shares of one law."""
    sizes = zip(law.inputs, SIZES[len(law.inputs)], strict=True)
    axes = np.meshgrid(*(np.geomspace(*RANGES[name], size) for name, size in sizes), indexing="ij")
    inputs = {name: axis.ravel() for name, axis in zip(law.inputs, axes, strict=True)}
    truth_P = np.array([law.example[name] for name in law.parameters])
    truth_R, inside, on_curve = log_loss(law, truth_P, inputs), [], []
    for seed in range(draws):
        noise_R = NOISE * np.random.default_rng(seed).normal(size=truth_R.size)
        losses_R = np.exp(truth_R + noise_R)
        samples_AP = bootstrap(fit(law, inputs, losses_R), inputs, losses_R, SAMPLES, seed)
        inside.append(_contains(samples_AP, truth_P))
        on_curve.append(_contains(log_loss(law, samples_AP, inputs), truth_R))
    shares_P = np.mean(inside, axis=0)
    return {
        "parameters": float(shares_P.mean()),
        "worst": float(shares_P.min()),
        "curve": float(np.mean(on_curve)),
    }


def _contains(samples: np.ndarray, truth: np.ndarray) -> np.ndarray:
    low, high = np.percentile(samples, (5, 95), axis=0)
    return (low <= truth) & (truth <= high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--only", default=",".join(laws.names()))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = {}
    for name in arguments.only.split(","):
        found[name] = measured(laws.make(name), arguments.draws)
        print(name, *(f"{key} {value:.3f}" for key, value in found[name].items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
