"""Pursuits, compared with scikit-learn, dictionary_learning and plain PyTorch, in units of one encoder matmul.

    pip install torch==2.15.0 scikit-learn==1.9.1 dictionary-learning==0.1.0
    python benchmarks/pursuit.py [--d=768 --n=8192 --k=32 --batch=1024 --rounds=3] [--json=FILE]

Tokens are sums of k of the atoms, which have unit length and random directions, with weights in [0.5, 1.5] and
a tenth of noise. All methods get the same tokens and take k steps. A method's time in `[B, D] x [D, F]` matmuls
of the same round is its GEMM-equivalents. They are given by wall clock and by processor time, which other work
on the machine disturbs less. Everything that a method makes is counted, Gram matrices too, except where the
name says otherwise. Slow peers get fewer tokens, and their time is scaled up. Medians. FVU = sum |x - xhat|^2 /
sum |x|^2.

Measured at the defaults on two shared CPU cores (load 7 to 9), jax 0.10.2, torch 2.15, in GEMM-equivalents
by the clock and by the processor's time:

    matching                    7.5   7.5   PyTorch with Gram updates        20.8  21.0  (matrix given: 13.5)
    matching, by magnitude      8.1   8.1
    orthogonal                 18.9  20.7   PyTorch with batched Cholesky    82.7  63.9   scikit-learn 784
    orthogonal, non-negative   27.3  23.7
    gradient                   18.7  18.9
    gradient, non-negative     20.5  20.8   dictionary_learning             120.0 107.7
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dictlearn.ops.pursuit import matching
from dictlearn.ops.pursuit.gradient import gradient
from dictlearn.ops.pursuit.orthogonal import orthogonal

SLOW = {"scikit-learn": 64, "dictionary_learning": 256}
"""Tokens that slow peers get."""


def data(b: int, d: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    W_FD = rng.normal(size=(n, d)).astype(np.float32)
    W_FD /= np.linalg.norm(W_FD, axis=1, keepdims=True)
    idx_BK = np.stack([rng.choice(n, k, replace=False) for _ in range(b)])
    val_BK = rng.uniform(0.5, 1.5, size=(b, k)).astype(np.float32)
    x_BD = np.einsum("bk,bkd->bd", val_BK, W_FD[idx_BK])
    noise_BD = rng.normal(size=x_BD.shape).astype(np.float32)
    return x_BD + 0.1 * noise_BD * np.sqrt(np.mean(x_BD**2)), W_FD


def ours(x_BD, W_FD, k: int) -> dict[str, tuple[int, Callable]]:
    """Name -> (tokens, a call that gives (values, indices))."""
    x, W = jnp.asarray(x_BD), jnp.asarray(W_FD)
    searches = {
        "matching": matching.pursue,
        "matching, by magnitude": partial(matching.pursue, absolute=True),
        "orthogonal": orthogonal,
        "orthogonal, non-negative": partial(orthogonal, nonnegative=True),
        "gradient": gradient,
        "gradient, non-negative": partial(gradient, nonnegative=True),
    }
    calls = {}
    for name, search in searches.items():
        run = jax.jit(lambda x, W, search=search: search(x, W, k)[:2])
        calls[f"dictlearn {name}"] = len(x), lambda run=run: jax.block_until_ready(run(x, W))
    return calls


def scikit_learn(x_BD, W_FD, k: int) -> dict[str, tuple[int, Callable]]:
    from sklearn.linear_model import orthogonal_mp

    n = SLOW["scikit-learn"]

    def run():
        code_FB = orthogonal_mp(W_FD.T, x_BD[:n].T, n_nonzero_coefs=k)
        return _sparse(code_FB.T, k)

    return {"scikit-learn orthogonal_mp": (min(n, len(x_BD)), run)}


def dictionary_learning(x_BD, W_FD, k: int) -> dict[str, tuple[int, Callable]]:
    import torch
    from dictionary_learning.grad_pursuit import grad_pursuit

    x = torch.tensor(x_BD[: SLOW["dictionary_learning"]])
    W = torch.tensor(W_FD.T.copy())
    run = lambda: _sparse(grad_pursuit(x, W, target_l0=k).numpy(), k)
    return {"dictionary_learning gradient, non-negative": (len(x), run)}


def pytorch(x_BD, W_FD, k: int) -> dict[str, tuple[int, Callable]]:
    import torch

    x, W = torch.tensor(x_BD), torch.tensor(W_FD)
    tokens, made = torch.arange(len(x)), W @ W.T

    def matching(gram=None):
        gram = W @ W.T if gram is None else gram
        score, val, idx = x @ W.T, [], []
        for _ in range(k):
            v, j = score.max(1)
            score.sub_(v[:, None] * gram[j])
            val.append(v)
            idx.append(j)
        return torch.stack(val, 1).numpy(), torch.stack(idx, 1).numpy()

    def orthogonal():
        first, gram = x @ W.T, W @ W.T
        score, idx = first.clone(), torch.zeros((len(x), k), dtype=torch.long)
        val = torch.zeros((len(x), 0))
        for t in range(k):
            score[tokens[:, None], idx[:, :t]] = 0
            idx[:, t] = score.abs().argmax(1)
            taken = idx[:, : t + 1]
            lower = torch.linalg.cholesky(gram[taken[:, :, None], taken[:, None, :]])
            val = torch.cholesky_solve(first.gather(1, taken)[:, :, None], lower)[:, :, 0]
            score = (x - torch.einsum("bk,bkd->bd", val, W[taken])) @ W.T
        return val.numpy(), idx.numpy()

    return {
        "PyTorch matching, Gram updates": (len(x), matching),
        "PyTorch matching, Gram updates, matrix not counted": (len(x), lambda: matching(made)),
        "PyTorch orthogonal, Gram and batched Cholesky": (len(x), orthogonal),
    }


PEERS = {"torch": pytorch, "dictionary_learning": dictionary_learning, "scikit-learn": scikit_learn}


def _sparse(code_BF: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    idx_BK = np.argsort(-np.abs(code_BF), axis=1)[:, :k]
    return np.take_along_axis(code_BF, idx_BK, axis=1), idx_BK


def fvu(x_BD, W_FD, val_BK, idx_BK) -> float:
    y_BD = np.einsum("bk,bkd->bd", np.asarray(val_BK), W_FD[np.asarray(idx_BK)])
    return float(((x_BD - y_BD) ** 2).sum() / (x_BD**2).sum())


def timed(call: Callable) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    start = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("d", 768), ("n", 8192), ("k", 32), ("batch", 1024), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", metavar="FILE")
    a = parser.parse_args()
    x_BD, W_FD = data(a.batch, a.d, a.n, a.k)
    calls, absent = ours(x_BD, W_FD, a.k), []
    for name, peer in PEERS.items():
        try:
            calls |= peer(x_BD, W_FD, a.k)
        except ModuleNotFoundError as error:
            absent.append(f"{name}: not measured, {error}")
    x, W = jnp.asarray(x_BD), jnp.asarray(W_FD)
    matmul = jax.jit(lambda x, W: x @ W.T)
    gemm = lambda: jax.block_until_ready(matmul(x, W))
    gemm()
    found = {}
    for name, (n, call) in calls.items():
        share = fvu(x_BD[:n], W_FD, *call())
        times = [
            np.divide(timed(call), np.median([timed(gemm) for _ in range(3)], axis=0))
            for _ in range(a.rounds)
        ]
        wall, cpu = (statistics.median(each) * a.batch / n for each in zip(*times, strict=True))
        found[name] = {"gemm_equivalents": wall, "of_cpu_time": cpu, "tokens": n, "fvu": share}
        print(
            f"{name:52} {wall:8.1f} {cpu:8.1f} by CPU time   {n:5} tokens   FVU {share:.4f}",
            flush=True,
        )
    print("\n".join(absent))
    if a.json:
        sizes = {"d": a.d, "n_latents": a.n, "k": a.k, "batch": a.batch}
        versions = {"jax": jax.__version__, "backend": jax.default_backend()}
        with open(a.json, "w") as file:
            json.dump(
                {"sizes": sizes, "versions": versions, "methods": found, "absent": absent},
                file,
                indent=2,
            )


if __name__ == "__main__":
    main()
