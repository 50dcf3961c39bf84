"""Dictionaries at their recommended settings, on planted data or on a store, with changes to compare them with.

    python benchmarks/recommended.py [--kinds=topk,batch_topk] [--seeds=3] [--data=planted|DIR]
        [--n_latents=2048] [--l0=16] [--tokens=1048576] [--batch=256] [--set=rule.lr=2e-3 ...]
        [--set=rule={...}] [--json=FILE]

planted: 1024 unit atoms in 256 dimensions, 16 of them on at a time with Zipf's frequencies (p2). DIR is the
folder of a store that `dictlearn harvest` wrote. Recovered is the share of planted atoms with an atom of the
dictionary at cosine 0.9 or above, precision the share of latents that fired with a planted atom there. FVU =
sum |x - xhat|^2 / sum |x - mean|^2, L0 and dead latents are of HELD_OUT tokens that were not trained on: fresh
ones of the planted data, the rows of a store after those of the run. The tables of docs/recommended.md are this
command's.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from dictlearn import Trained, dense, recommended, restore, streams
from dictlearn.cli.analyse import literal
from dictlearn.streams import Stream
from dictlearn.train import train

HELD_OUT = 16_384
PLANTED = {"name": "synthetic", "kind": "p2", "d_in": 256, "n_features": 1024, "sparsity": 16.0}

Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Normalised inputs [B, D] -> (reconstructions [B, D], dense codes [B, F])."""


def source(data: str) -> dict:
    """The config of the stream."""
    return dict(PLANTED) if data == "planted" else {"name": "store", "path": data}


def stream_of(args: argparse.Namespace, seed: int) -> Stream:
    """Normalised data in batches, the same for every dictionary.

    Raises ValueError for a store with fewer rows than are trained on and held out.
    """
    settings = {**source(args.data), "normalise": "mean_norm_sqrt_d"}
    stream = streams.make(settings.pop("name"), **settings, batch_size=args.batch, seed=seed)
    needed = args.tokens + args.batch + HELD_OUT
    if stream.n_rows is not None and stream.n_rows < needed:
        raise ValueError(
            f"the store has {stream.n_rows} rows; {needed} are needed: lower --tokens."
        )
    return stream


def held_out(stream: Stream, tokens: int, batch: int) -> np.ndarray:
    """Normalised tokens [HELD_OUT, D], or up to a batch more, after those of the run. batch: that of the
    stream."""
    first = tokens // batch + 1
    rows = (stream.batch(first + t).x_BD for t in range(-(-HELD_OUT // batch)))
    return np.concatenate([np.asarray(x_BD) for x_BD in rows])


def measured(run: Run, held_BD: np.ndarray) -> dict[str, float]:
    """FVU, L0 and the share of dead latents, on held-out tokens."""
    error, active, fired_F = 0.0, 0, np.zeros(1, bool)
    for start in range(0, len(held_BD), 2048):
        x_BD = held_BD[start : start + 2048]
        y_BD, codes_BF = run(x_BD)
        error += float(((x_BD - y_BD).astype(np.float64) ** 2).sum())
        active += np.count_nonzero(codes_BF)
        fired_F = fired_F | (codes_BF != 0).any(0)
    variance = float(((held_BD - held_BD.mean(0, dtype=np.float64)) ** 2).sum())
    dead = 1 - float(fired_F.mean())
    return {"FVU": error / variance, "L0": active / len(held_BD), "dead": dead}


def trained(kind: str, seed: int, args: argparse.Namespace, d_in: int, **own) -> Trained:
    """A dictionary at its recommended settings with the changes of `--set`; own: fields of the dictionary."""
    sizes = {"n_latents": args.n_latents, "tokens": args.tokens, "l0": args.l0}
    found = recommended(kind, d_in=d_in, batch_size=args.batch, **sizes)
    found["stream"] = {**source(args.data), **found["stream"]}
    found["dictionary"] |= own
    for change in args.set:
        key, _, text = change.partition("=")
        subtree, dot, field = key.partition(".")
        if dot:
            found.setdefault(subtree, {})[field] = literal(text)
        else:
            found[subtree] = literal(text)
    found |= {"log_every": found["steps"], "checkpoint_every": found["steps"], "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        train(found, Path(folder))
        (one,) = restore(folder)
    return one


def run_of(one: Trained) -> Run:
    """The inference form of one of ours."""

    @jax.jit
    def run(x_BD):
        y_BD, codes = one.module.apply(one.variables, x_BD, method="reconstruct")
        return y_BD, dense(codes, one.module.n_latents)

    return lambda x_BD: tuple(map(np.asarray, run(x_BD)))


def recovered(one: Trained, truth_ND: np.ndarray, dead: float) -> dict[str, float]:
    """The share of planted atoms that were found, and the share of living latents that are one."""
    atoms_FD = np.asarray(one.variables["params"]["W_dec_FD"])
    unit_FD = atoms_FD / np.linalg.norm(atoms_FD, axis=1, keepdims=True).clip(1e-12)
    cosine_NF = truth_ND @ unit_FD.T
    close = (cosine_NF.max(0) >= 0.9).sum()
    precision = close / max(1, round((1 - dead) * len(atoms_FD)))
    return {"recovered": float((cosine_NF.max(1) >= 0.9).mean()), "precision": float(precision)}


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        stream = stream_of(args, seed)
        held_BD = held_out(stream, args.tokens, args.batch)
        for kind in args.kinds.split(","):
            one = trained(kind, seed, args, stream.d_in)
            found = measured(run_of(one), held_BD)
            if stream.truth is not None:
                found |= recovered(one, stream.truth, found["dead"])
            yield {"kind": kind, "seed": seed, **found}


def report(rows: Iterable[dict], path: Path | None) -> list[dict]:
    """Prints each row as it comes, and keeps all so far as JSON if there is a path; the rows."""
    found = []
    for row in rows:
        found.append(row)
        told = (f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print("  ".join(told), flush=True)
        if path:
            path.write_text(json.dumps(found, indent=1) + "\n")
    return found


def sizes(parser: argparse.ArgumentParser) -> None:
    """The arguments that every comparison on these data has."""
    parser.add_argument("--data", default="planted")
    parser.add_argument("--n_latents", type=int, default=2048)
    parser.add_argument("--l0", type=float, default=16)
    parser.add_argument("--tokens", type=int, default=2**20)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="SUBTREE.NAME=VALUE")
    parser.add_argument("--json", type=Path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", default="topk,batch_topk,matryoshka,jumprelu,gated")
    sizes(parser)
    args = parser.parse_args()
    report(rows(args), args.json)


if __name__ == "__main__":
    main()
