"""The best learning rate by width, batch and tokens, at otherwise recommended settings: what the law should be.

    python benchmarks/rates.py [--data=planted|DIR] [--kind=topk] [--widths=128,256,512]
        [--batches=128,512,2048] [--tokens=262144,2097152] [--l0=8] [--factors=0.25,0.5,1,2,4] [--seeds=2]
        [--json=FILE]

planted: 256 unit atoms in 64 dimensions, 8 of them on at a time with Zipf's frequencies (p2). DIR is the
folder of a store that `dictlearn harvest` wrote. Each width, batch and length is one program of all rates and
seeds; the rates are the recommended one times --factors. FVU is of tokens that were not trained on. The best
rate is the minimum of a parabola through the FVU of the best factor and its neighbours, in log rate, for each
seed. At an end of the grid it is that end, marked `<` or `>`, and the fit leaves it out. The last lines fit
ln(best rate) = c + a ln(width) + b ln(batch) + e ln(tokens), with 95 % intervals from the seeds' own optima,
and say what FVU the recommended rate loses against the best factor.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from recommended import held_out, measured, run_of
from scipy import stats

from dictlearn import recommended, restore, streams
from dictlearn.train import train

AXES = ("width", "batch", "tokens")
PLANTED = {"name": "synthetic", "kind": "p2", "d_in": 64, "n_features": 256, "sparsity": 8.0}


def cell(args: argparse.Namespace, width: int, batch: int, tokens: int) -> tuple[float, np.ndarray]:
    """(the recommended rate, FVU [seeds, factors])."""
    source = PLANTED if args.data == "planted" else {"name": "store", "path": args.data}
    stream = {**source, "normalise": "mean_norm_sqrt_d"}
    name = stream.pop("name")
    made = streams.make(name, **stream, batch_size=batch, seed=0)
    held_BD = held_out(made, tokens, batch)
    sizes = {"n_latents": width, "tokens": tokens, "l0": args.l0}
    found = recommended(args.kind, d_in=made.d_in, batch_size=batch, **sizes)
    rate = found["rule"]["lr"]
    found["stream"] = {**source, **found["stream"]}
    rates, seeds = tuple(rate * factor for factor in args.factors), tuple(range(args.seeds))
    found["sweep"] = {"seed": seeds, "rule.lr": rates}
    found |= {"log_every": found["steps"], "checkpoint_every": found["steps"], "seed": 0}
    with tempfile.TemporaryDirectory() as folder:
        train(found, Path(folder))
        fvu = {
            (one.hparams["seed"], one.hparams["rule"]["lr"]): measured(run_of(one), held_BD)["FVU"]
            for one in restore(folder)
        }
    return rate, np.array([[fvu[seed, lr] for lr in rates] for seed in seeds])


def best(log_rates: np.ndarray, fvu: np.ndarray) -> tuple[float, str]:
    """(the log rate of the lowest FVU, a mark where it lies at an end)."""
    at = int(np.nanargmin(fvu))
    if at in (0, len(fvu) - 1):
        return float(log_rates[at]), "<" if at == 0 else ">"
    a, b, _ = np.polyfit(log_rates[at - 1 : at + 2], fvu[at - 1 : at + 2], 2)
    return float(-b / (2 * a)), ""


def exponents(rows: list[dict]) -> dict:
    """The regression of the log of the best rates on the logs of what varies."""
    inside = [row for row in rows if not row["end"]]
    names = [name for name in AXES if len({row[name] for row in inside}) > 1]
    free = len(inside) - 1 - len(names)
    if free < 1:
        return {}
    X = np.array([[1, *(np.log(row[name]) for name in names)] for row in inside])
    y = np.log([row["best"] for row in inside])
    found, *_ = np.linalg.lstsq(X, y, rcond=None)
    spread = ((y - X @ found) ** 2).sum() / free * np.linalg.inv(X.T @ X)
    half = stats.t.ppf(0.975, free) * np.sqrt(np.diag(spread))
    both = zip(("constant", *names), found, half, strict=True)
    return {name: {"value": value, "half_width": each} for name, value, each in both}


def rows_of(args: argparse.Namespace) -> Iterator[dict]:
    factors = np.array(args.factors)
    for width, batch, tokens in product(args.widths, args.batches, args.tokens):
        rate, fvu = cell(args, width, batch, tokens)
        plateau = rate * (2**14 / width) ** 0.5
        for seed, row in enumerate(fvu):
            log_rate, end = best(np.log(plateau * factors), row)
            told = {"best": float(np.exp(log_rate)), "end": end, "recommended": plateau}
            told["lost"] = float(row[args.factors.index(1)] / np.nanmin(row) - 1)
            sizes = {"width": width, "batch": batch, "tokens": tokens, "seed": seed}
            yield {**sizes, **told, "fvu": row.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    numbers = lambda of: lambda text: [of(each) for each in text.split(",")]
    parser.add_argument("--data", default="planted")
    parser.add_argument("--kind", default="topk")
    parser.add_argument("--widths", type=numbers(int), default=[128, 256, 512])
    parser.add_argument("--batches", type=numbers(int), default=[128, 512, 2048])
    parser.add_argument("--tokens", type=numbers(int), default=[2**18])
    parser.add_argument("--factors", type=numbers(float), default=[0.25, 0.5, 1, 2, 4])
    parser.add_argument("--l0", type=float, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args, rows = parser.parse_args(), []
    for row in rows_of(args):
        rows.append(row)
        shown = " ".join(f"{each:.4f}" for each in row["fvu"])
        figures = "best {best:.2e}{end} of {recommended:.2e}  lost {lost:.1%}".format(**row)
        where = "n {width:5} batch {batch:5} tokens {tokens:8} seed {seed}".format(**row)
        print(f"{where}  FVU {shown}  {figures}", flush=True)
        if args.json:
            args.json.write_text(json.dumps({"rows": rows, "fit": exponents(rows)}) + "\n")
    for name, each in exponents(rows).items():
        print(f"{name:8} {each['value']:+.2f} +- {each['half_width']:.2f}")
    print(f"lost at the recommended rate: worst {max(row['lost'] for row in rows):.1%}")


if __name__ == "__main__":
    main()
