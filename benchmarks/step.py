"""The TopK training step with its sparse backward pass, compared with dense autodiff.

    python benchmarks/step.py [--d=768 --n=12288 --k=32 --batch=2048 --rounds=7] [--json=FILE]

Both are the same learner with everything on (dead-latent counters, AuxK armed, projection, clipping, Adam,
unit-norm atoms) on the same data. The dense one differentiates through `[B, F]` codes. Rounds interleave the
two and the bound, one encoder matmul; a step's time in matmuls is its GEMM-equivalents. Medians.
"""

import argparse
import json
import statistics
import time

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dictlearn import dictionaries, objectives, rules
from dictlearn.dictionaries import _linear
from dictlearn.learners.gradient import gradient
from dictlearn.types import Batch, Codes, Out


class DenseTopK(nn.Module):
    """TopK by textbook autodiff: codes `[B, F]`, and dense matmuls forward and back."""

    d_in: int
    n_latents: int
    k: int
    d_out: int | None = None

    def setup(self):
        _linear.declare(self)

    def __call__(self, x_BD, dead_F):
        x_BD = _linear.centre(self, x_BD)
        pre_BF = x_BD @ self.W_enc_FD.T + self.b_enc_F
        val_BK, idx_BK = lax.top_k(pre_BF, self.k)
        rows = jnp.arange(len(x_BD))[:, None]
        codes = Codes(jnp.zeros_like(pre_BF).at[rows, idx_BK].set(jax.nn.relu(val_BK)))
        return Out(_linear.decode(self, codes), codes, lax.stop_gradient(pre_BF))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("d", 768), ("n", 12288), ("k", 32), ("batch", 2048), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", metavar="FILE")
    a = parser.parse_args()
    x = jax.random.normal(jax.random.key(0), (a.batch, a.d))
    batch, sizes = Batch(x, x), {"d_in": a.d, "n_latents": a.n, "k": a.k}
    modules = {
        "sparse": dictionaries.make("topk", aux_k=a.d // 2, **sizes),
        "dense": DenseTopK(**sizes),
    }
    steps, memory = {}, {}
    for name, module in modules.items():
        rule = rules.make("adam", lr=1e-3, steps=10**6)
        learner = gradient(module, objectives.make("fvu"), rule)
        state = jax.jit(learner.init)(jax.random.key(0), batch)
        compiled = jax.jit(learner.update, donate_argnums=0).lower(state, batch).compile()
        memory[name] = compiled.memory_analysis().temp_size_in_bytes
        steps[name] = [compiled, state]
    gemm = jax.jit(lambda x, W: x @ W.T)
    W = jax.random.normal(jax.random.key(1), (a.n, a.d))
    times = {"gemm": [], **{name: [] for name in steps}}
    for round_ in range(a.rounds + 1):
        for name, taken in times.items():
            start = time.perf_counter()
            if name == "gemm":
                jax.block_until_ready(gemm(x, W))
            else:
                compiled, state = steps[name]
                steps[name][1], info = compiled(state, batch)
                jax.block_until_ready((steps[name][1], info))
            if round_:
                taken.append(time.perf_counter() - start)
    seconds = {name: statistics.median(taken) for name, taken in times.items()}
    found = {
        "sizes": {"d": a.d, "n_latents": a.n, "k": a.k, "batch": a.batch},
        "versions": {"jax": jax.__version__, "backend": jax.default_backend()},
        "seconds": seconds,
        "gemm_equivalents": {name: seconds[name] / seconds["gemm"] for name in steps},
        "temporary_bytes": memory,
        "times_faster_than_dense": seconds["dense"] / seconds["sparse"],
    }
    print(json.dumps(found, indent=2))
    if a.json:
        with open(a.json, "w") as file:
            json.dump(found, file, indent=2)


if __name__ == "__main__":
    main()
