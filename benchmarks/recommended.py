"""Dictionaries at their recommended settings, on planted data or on a store, with changes to compare them with.

    python benchmarks/recommended.py [--kinds=topk,batch_topk] [--seeds=3] [--data=planted|DIR]
        [--n_latents=2048] [--l0=16] [--tokens=1048576] [--set=rule.lr=2e-3 ...] [--json=FILE]

planted: 1024 unit atoms in 256 dimensions, 16 of them on at a time with Zipf's frequencies (p2). DIR is the
folder of a store that `dictlearn harvest` wrote. Recovered is the share of planted atoms with an atom of the
dictionary at cosine 0.9 or above, precision the share of latents that fired with a planted atom there; FVU, L0
and dead latents are of held-out tokens. The tables of docs/recommended.md are this command's.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dictlearn import recommended, restore, streams
from dictlearn.cli.analyse import literal
from dictlearn.evaluate import evaluate
from dictlearn.train import train

BATCH, PLANTED = 256, {"kind": "p2", "d_in": 256, "n_features": 1024, "sparsity": 16.0}


def config(kind: str, seed: int, args: argparse.Namespace) -> dict:
    stream: dict = {"name": "synthetic", **PLANTED}
    d_in = PLANTED["d_in"]
    if args.data != "planted":
        stream = {"name": "store", "path": args.data}
        d_in = streams.make("store", path=args.data, batch_size=BATCH).d_in
    sizes = {"n_latents": args.n_latents, "tokens": args.tokens, "l0": args.l0}
    found = recommended(kind, d_in=d_in, batch_size=BATCH, **sizes)
    found["stream"] = {**stream, **found["stream"]}
    for change in args.set:
        key, _, text = change.partition("=")
        subtree, _, field = key.partition(".")
        found.setdefault(subtree, {})[field] = literal(text)
    rest = {"log_every": found["steps"], "checkpoint_every": found["steps"], "seed": seed}
    return {**found, **rest, "evaluate": {"n_tokens": 16_384}}


def measured(kind: str, seed: int, args: argparse.Namespace) -> dict:
    """The figures of one dictionary."""
    settings = config(kind, seed, args)
    with tempfile.TemporaryDirectory() as folder:
        train(settings, Path(folder))
        (record,) = evaluate(settings, Path(folder)).values()
        (trained,) = restore(folder)
    found = {
        "FVU": 1 - record["explained_variance"],
        "L0": record["l0"],
        "dead": record["dead_fraction"],
    }
    if args.data == "planted":
        atoms_FD = np.asarray(trained.variables["params"]["W_dec_FD"])
        unit_FD = atoms_FD / np.linalg.norm(atoms_FD, axis=1, keepdims=True).clip(1e-12)
        stream = streams.make("synthetic", **PLANTED, batch_size=BATCH, seed=seed)
        cosine_NF = stream.truth @ unit_FD.T
        found["recovered"] = (cosine_NF.max(1) >= 0.9).mean()
        close = (cosine_NF.max(0) >= 0.9).sum()
        found["precision"] = close / max(1, round((1 - record["dead_fraction"]) * len(atoms_FD)))
    return {name: float(value) for name, value in found.items()}


def rows(args: argparse.Namespace) -> Iterator[tuple[str, int, dict]]:
    for kind in args.kinds.split(","):
        for seed in range(args.seeds):
            yield kind, seed, measured(kind, seed, args)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", default="topk,batch_topk,matryoshka,jumprelu,gated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", default="planted")
    parser.add_argument("--n_latents", type=int, default=2048)
    parser.add_argument("--l0", type=float, default=16)
    parser.add_argument("--tokens", type=int, default=2**20)
    parser.add_argument("--set", action="append", default=[], metavar="SUBTREE.NAME=VALUE")
    parser.add_argument("--json")
    args = parser.parse_args()
    found = []
    for kind, seed, figures in rows(args):
        found.append({"kind": kind, "seed": seed, **figures})
        told = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
        print(f"{kind:12} seed {seed}  {told}", flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
