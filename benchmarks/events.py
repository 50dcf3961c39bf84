"""The event cache beside delphi's: the same activations and the same TopK dictionary, in turns.

    python benchmarks/events.py --delphi=PYTHON [--rounds=3]
    python benchmarks/events.py --memory        # 100,000 latents on 10 million tokens: time and memory

PYTHON is the interpreter of the environment of delphi in benchmarks/tools.py. Measured are the events cached in
a second, from activations to finished files, and the windows of 32 tokens read back in a second: of every
latent all windows on which it fires, the largest first. Neither runs the language model. delphi's cache gets
dense codes of the same encoder in torch, as it gets them from sparsify.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
from tools_common import ran

from dictlearn import dictionaries, events
from dictlearn.events import windows
from dictlearn.events._parts import Found
from dictlearn.events.writer import Job
from dictlearn.runs.trained import Trained

D, F, K, S, T = 576, 3072, 32, 1024, 128
JOB = 32
"""Sequences of one pass."""

DELPHI = """
import json, time, numpy, torch
from pathlib import Path
from delphi.config import ConstructorConfig, SamplerConfig
from delphi.latents import LatentDataset
from delphi.latents.cache import LatentCache
from delphi.latents.constructors import pool_max_activation_windows
torch.set_grad_enabled(False)
load = lambda name: torch.tensor(numpy.load(f"{home}/{name}.npy"))
x, tokens, W, b = load("x"), load("tokens").long(), load("W"), load("b")
start = time.perf_counter()
made = LatentCache(None, {}, job)
made.width = F
encoded = 0.0
for n in range(len(x) // job):
    began = time.perf_counter()
    pre = torch.relu(x[n * job:(n + 1) * job] @ W.T + b)
    val, idx = pre.topk(K, dim=-1)
    codes = torch.zeros_like(pre).scatter_(-1, idx, val)
    encoded += time.perf_counter() - began
    made.cache.add(codes, tokens[n * job:(n + 1) * job], n, "resid.0")
made.cache.save()
made.save_splits(5, Path(f"{home}/latents"))
Path(f"{home}/latents/resid.0/config.json").write_text(json.dumps({}))
wrote = time.perf_counter()
length, seen = 32, 0
data = LatentDataset(f"{home}/latents", SamplerConfig(), ConstructorConfig(), tokenizer="unused")
pieces = data.tokens.reshape(-1, length)
for buffer in data.buffers:
    for one in buffer:
        at, val = one.activation_data.locations, one.activation_data.activations
        place = at[:, 0] * data.tokens.shape[1] + at[:, 1]
        words, _ = pool_max_activation_windows(val, pieces, place // length, place % length, length)
        seen += len(words)
events = sum(len(v) for v in made.cache.latent_activations.values())
read = time.perf_counter() - wrote
found = {"events": events, "encode": encoded, "write": wrote - start, "windows": seen, "read": read}
"""


def rows(x_STD: np.ndarray, tokens_ST: np.ndarray) -> events.Rows:
    """The activations of an array, every token in one part."""
    at = [np.arange(start, start + JOB) for start in range(0, S, JOB)]

    def read(chosen):
        for part in chosen:
            for own in at:
                rows_RD = x_STD[own].reshape(-1, D)
                place_R = np.arange(own[0] * T, own[0] * T + len(rows_RD))
                where = {"sequence_R": place_R // T, "position_R": place_R % T}
                yield part, {"x": rows_RD, **where}, np.arange(len(rows_RD))

    return events.Rows(("x",), tokens_ST, np.ones((S, T), bool), 1, {}, read)


class Timed(Trained):
    """A dictionary that notes how long its encoder takes."""

    clock: ClassVar[list[float]] = []

    def encode(self, x_BD):
        start = time.perf_counter()
        codes = jax.block_until_ready(super().encode(x_BD))
        self.clock.append(time.perf_counter() - start)
        return codes


def ours(trained: Timed, given: events.Rows, folder: Path) -> dict[str, float]:
    trained.clock.clear()
    start = time.perf_counter()
    events.write(events.job(trained, given), folder)
    wrote = time.perf_counter()
    found, seen = events.read(folder, verify=False), 0
    for latent in range(F):
        seen += len(windows.pooled(found, latent)[0])
    read = time.perf_counter() - wrote
    seconds = {"encode": sum(trained.clock), "write": wrote - start, "read": read}
    return {"events": len(found.val_E), "windows": seen, **seconds}


def compare(python: str, rounds: int) -> None:
    key = jax.random.key(0)
    x_STD = np.asarray(jax.random.normal(key, (S, T, D)))
    tokens_ST = np.random.default_rng(0).integers(0, 49152, (S, T)).astype(np.int32)
    module = dictionaries.make("topk", d_in=D, n_latents=F, k=K)
    trained = Timed(module, module.init(key, x_STD[0], np.zeros(F, bool)))
    params = trained.variables["params"]
    weights = {"W": params["W_enc_FD"], "b": params["b_enc_F"]}
    given, both = rows(x_STD, tokens_ST), {"here": [], "delphi": []}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, array in {"x": x_STD, "tokens": tokens_ST, **weights}.items():
            np.save(home / f"{name}.npy", np.asarray(array))
        for n in range(rounds):
            both["here"].append(ours(trained, given, home / str(n)))
            both["delphi"].append(ran(python, DELPHI, home, job=JOB, F=F, K=K))
            print(both["here"][-1], both["delphi"][-1], flush=True)
    print("| | events/s | without the encoder | windows/s |\n|---|---|---|---|")
    for name, found in both.items():
        speeds = [
            statistics.median(one["events"] / one["write"] for one in found),
            statistics.median(one["events"] / (one["write"] - one["encode"]) for one in found),
            statistics.median(one["windows"] / one["read"] for one in found),
        ]
        print(f"| {name} | {' | '.join(f'{speed:,.0f}' for speed in speeds)} |")


def large(n_latents: int = 100_000, n_sequences: int = 78_125, per_token: int = 20) -> None:
    """Random events of many latents on many tokens, within a budget of 256 MiB."""
    budget, tokens_ST = 1 << 28, np.zeros((n_sequences, T), np.uint16)
    parts = np.array_split(np.arange(n_sequences), 150)

    def found(chosen):
        for part in chosen:
            random = np.random.default_rng(part)
            for own in np.array_split(parts[part], 16):
                place_E = np.repeat(np.arange(own[0] * T, (own[-1] + 1) * T), per_token)
                # Distinct latents of a token; the low ones are more frequent.
                step_E = np.tile(np.arange(per_token) * (n_latents // per_token), len(own) * T)
                skewed = random.random(len(place_E)) ** 3 * (n_latents // per_token)
                latent_E = (skewed + step_E).astype(np.int32)
                yield part, Found(latent_E, place_E, random.random(len(place_E), dtype=np.float32))

    work = Job({}, n_latents, len(parts), tokens_ST, np.ones((n_sequences, T), bool), found)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        events.write(work, folder + "/cache", memory=budget)
        seconds = time.perf_counter() - start
        n = len(events.read(folder + "/cache", verify=False).val_E)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{n:,} events in {seconds:.0f} s; budget {budget >> 20} MiB, the process grew {grown:.0f} MiB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--delphi", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    if arguments.delphi:
        compare(arguments.delphi, arguments.rounds)
    if arguments.memory:
        large()
