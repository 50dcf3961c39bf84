"""The table of docs/scale.md: plans of experiments/million.py for slices of TPU pods, without the hardware.

    python benchmarks/scale.py [--only=64,wide] [--json=FILE]          (with libtpu; half a minute a row)

`more` rows have as much work on every chip as the one of 64 chips: more tokens, more latents, or both.
"""

import argparse
import json
from pathlib import Path

import jax

from dictlearn.cli.config import read
from dictlearn.plan import plan

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "million.py"

DOUBLE = {"n_latents": 2**21, "batch_size": 131_072, "model": 16}
ROWS = {
    "64": ("topk", "v5p:4x4x4", {}),
    "more both": ("topk", "v5p:4x8x8", DOUBLE),
    "more tokens": ("topk", "v5p:4x8x8", {"batch_size": 262_144}),
    "more latents": ("topk", "v5p:4x8x8", {"n_latents": 2**22, "model": 32}),
    "v6e": ("topk", "v6e:16x16", DOUBLE),
    "batch": ("batch_topk", "v5p:4x4x4", {}),
    "batch more both": ("batch_topk", "v5p:4x8x8", DOUBLE),
    "wide": ("wide", "v5p:8x8x8", {}),
    "v5e": ("v5e", "v5e:4x4", {"d_in": 2048}),
}
"""Name: argument of the experiment, slice, what is changed."""
HEADER = (
    *("", "slice", "latents", "d", "tokens", "data x model", "state", "held", "of HBM", "sent"),
    *("largest", "products", "memory", "network", "tokens/s"),
)


def planned(arg: str, slice_name: str, changes: dict) -> dict:
    config = read(EXPERIMENT, arg, ())
    if "n_latents" in changes:
        config["dictionary"]["n_latents"] = changes["n_latents"]
    if "model" in changes:
        config["mesh"]["model"] = changes["model"]
    config["batch_size"] = changes.get("batch_size", config["batch_size"])
    return plan(config, slice_name, changes.get("d_in", 4096))


def cells(name: str, found: dict) -> list[str]:
    """A row of the table: GiB of one chip, elements of the largest array that a collective moves, ms a step."""
    (row,), mesh = found["programs"], found["mesh"]
    latents = row["parameters"] // (2 * found["d_in"])
    gib = lambda key: f"{row[key] / 2**30:.2f}"
    milliseconds = [f"{row['seconds_by'][part] * 1e3:.0f}" for part in HEADER[-4:-1]]
    return [
        *(name, found["topology"], f"2^{latents.bit_length() - 1}", str(found["d_in"])),
        *(f"{row['tokens']:,}", f"{mesh['data']} x {mesh['model']}", gib("state"), gib("total")),
        *(f"{row['share_of_hbm']:.0%}", gib("bytes_sent"), f"{row['largest_collective']:.2g}"),
        *(*milliseconds, f"{found['time']['tokens_per_second']:,.0f}"),
    ]


def line(cells) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="rows, by name; default all")
    parser.add_argument("--json", type=Path, help="all figures of every plan")
    given = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    found = {}
    print(line(HEADER))
    print("|" + "---|" * len(HEADER))
    for name in given.only.split(",") if given.only else ROWS:
        found[name] = planned(*ROWS[name])
        print(line(cells(name, found[name])), flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
