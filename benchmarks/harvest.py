"""A language model's activations: our forward pass and transformers', and a learner that trains on them.

    python benchmarks/harvest.py [--rounds=5] [--batches=8,16,32] [--only=forward|train] [--json=FILE]

forward: SmolLM2-135M (4-bit weights made float32) to resid.9, ten blocks and no unembedding, sequences of 128
of Wikipedia, until the activation is a numpy array. `transformers` runs on PyTorch with the same weights, two
threads, inference mode, and both of its attentions. Every round runs all of them at every batch size. The
results are medians, the best of each, the processor time of all threads and the largest difference of the
outputs. Other work on the machine disturbs processor time less than the rate.

train: TopK, 16,384 latents, k 32, on `from_lm`; also the language model alone, and the learner alone on batches
in memory. Tokens/s in the steady state. On a CPU both share the cores, so the bound is the sum of both times.
On an accelerator with spare cores, and with two accelerators, it is the time of the slower one.
"""

import argparse
import itertools
import json
import os
import statistics
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # PyTorch's idle threads must not spin

import jax
import numpy as np
import torch
from transformers import LlamaConfig, LlamaModel

from dictlearn import dictionaries, objectives, rules, streams
from dictlearn import lm as language
from dictlearn.learners.gradient import gradient
from dictlearn.streams._source import Forward, Recipe, Source, cut
from dictlearn.types import Batch

TAP, N_BLOCKS = "resid.9", 10
BATCH, POOL = 1024, 4
LATENTS, K = 16_384, 32


def reference(lm, attention: str) -> LlamaModel:
    """The first blocks of the model in PyTorch, with our weights, ending in the residual stream."""
    spec = lm.spec
    config = LlamaConfig(
        vocab_size=spec.vocab,
        hidden_size=spec.d_model,
        intermediate_size=spec.d_mlp,
        num_hidden_layers=N_BLOCKS,
        num_attention_heads=spec.n_heads,
        num_key_value_heads=spec.n_kv_heads,
        head_dim=spec.head_dim,
        rms_norm_eps=spec.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope_base},
        max_position_embeddings=8192,
        use_cache=False,
    )
    config._attn_implementation = attention
    model = LlamaModel(config).eval()
    ours = {
        "self_attn.q_proj": "W_q_DH",
        "self_attn.k_proj": "W_k_DG",
        "self_attn.v_proj": "W_v_DG",
    }
    ours |= {"self_attn.o_proj": "W_o_HD", "mlp.gate_proj": "W_gate_DM", "mlp.up_proj": "W_up_DM"}
    ours |= {"mlp.down_proj": "W_down_MD", "input_layernorm": "attn_norm_D"}
    ours |= {"post_attention_layernorm": "mlp_norm_D"}
    tensor = lambda leaf: torch.tensor(np.ascontiguousarray(np.asarray(leaf).T))
    state = {"embed_tokens.weight": torch.tensor(np.asarray(lm.params["embed_VD"]))}
    for layer in range(N_BLOCKS):
        for theirs, leaf in ours.items():
            state[f"layers.{layer}.{theirs}.weight"] = tensor(lm.params[f"block_{layer}"][leaf])
    model.norm = torch.nn.Identity()
    model.load_state_dict(state)
    return model


def forward(lm, batches: list[int], rounds: int) -> dict:
    recipe = Recipe(taps=TAP, dtype="float32", n_tokens=20_000)
    tokens_ST = Source(lm, recipe).train.tokens_ST
    run = jax.jit(lambda params, tokens_BT: lm.forward(params, tokens_BT)[1][TAP])
    ours = lambda tokens_BT: np.asarray(run(lm.params, tokens_BT))
    models = {name: reference(lm, name) for name in ("eager", "sdpa")}

    def theirs(name: str):
        @torch.inference_mode()
        def call(tokens_BT):
            return models[name](torch.from_numpy(tokens_BT).long()).last_hidden_state.numpy()

        return call

    contenders = {"dictlearn": ours, **{f"transformers, {n}": theirs(n) for n in models}}
    seconds = {(name, size): [] for size in batches for name in contenders}
    busy = {key: [] for key in seconds}
    difference = 0.0
    for round_ in range(rounds + 1):
        for size in batches:
            found = {}
            for name, call in contenders.items():
                start = time.perf_counter(), time.process_time()
                found[name] = call(tokens_ST[:size])
                if round_:
                    seconds[name, size].append(time.perf_counter() - start[0])
                    busy[name, size].append(time.process_time() - start[1])
            outputs = list(found.values())
            scale = np.abs(outputs[0]).max()
            worst = max(float(np.abs(outputs[0] - other).max() / scale) for other in outputs[1:])
            difference = max(difference, worst)
    rate = {key: key[1] * 128 / statistics.median(taken) for key, taken in seconds.items()}
    cost = {key: statistics.median(taken) / key[1] / 128 for key, taken in busy.items()}
    least = {name: min(cost[name, size] for size in batches) for name in contenders}
    best = {name: max(rate[name, size] for size in batches) for name in contenders}
    peer = max(value for name, value in best.items() if name != "dictlearn")
    return {
        "tokens_per_second": {
            f"{name}, {size} sequences": round(v) for (name, size), v in rate.items()
        },
        "best": {name: round(value) for name, value in best.items()},
        "best_processor_microseconds_per_token": {n: round(1e6 * v) for n, v in least.items()},
        "times_faster_than_transformers": best["dictlearn"] / peer,
        "largest_difference_over_largest_value": difference,
    }


def train(lm, lm_batch: int, pools: int, rounds: int) -> dict:
    """Every round: `pools` pools through the learner alone, the model alone, and both at once, of
    which the first pool, that nothing can overlap with, is not counted."""
    recipe = {"taps": TAP, "dtype": "float32", "lm_batch": lm_batch, "n_tokens": 60_000}
    rule = rules.make("adam", lr=1e-3, steps=10**6)
    module = dictionaries.make("topk", d_in=576, n_latents=LATENTS, k=K)
    learner = gradient(module, objectives.make("fvu"), rule)
    update = jax.jit(learner.update, donate_argnums=0)
    settings = {"batch_size": BATCH, "seed": 0, "pool_rows": POOL * BATCH}
    stream = streams.make("from_lm", lm=lm, recipe=recipe, **settings)
    held = [stream.batch(t) for t in range(POOL)]
    state = jax.jit(learner.init)(jax.random.key(0), held[0])
    source = Source(lm, Recipe.of(**recipe))
    run = Forward(source, [TAP])
    n_sequences = pools * POOL * BATCH // 127
    clock = lambda: np.array([time.perf_counter(), time.process_time()])

    def learn(batches, n: int):
        nonlocal state
        for _ in range(n):
            batch = next(batches)
            state, info = update(state, Batch(batch.x_BD, batch.x_BD))
            jax.block_until_ready(info)

    taken = {"language model alone": [], "learner alone": [], "both": []}
    for round_ in range(rounds + 1):
        start = clock()
        learn(iter(held * pools), POOL * pools)
        learned = clock()
        jobs = cut(np.arange(n_sequences), lm_batch)
        rows = sum(len(piece["sequence_R"]) for piece in run.rows(source.train, jobs))
        computed = clock()
        fresh = streams.make("from_lm", lm=lm, recipe=recipe, **settings)
        batches = (fresh.batch(t) for t in itertools.count())
        learn(batches, POOL)
        first = next(batches)
        steady = clock()
        learn(itertools.chain([first], batches), POOL * pools)
        next(batches)
        if round_:
            taken["both"].append((clock() - steady) / (POOL * pools * BATCH))
            taken["learner alone"].append((learned - start) / (POOL * pools * BATCH))
            taken["language model alone"].append((computed - learned) / rows)
        del fresh, batches
    seconds = {name: np.median(times, axis=0) for name, times in taken.items()}
    *alone, both = seconds.values()
    return {
        "tokens_per_second": {name: round(1 / times[0]) for name, times in seconds.items()},
        "processor_microseconds_per_token": {n: round(1e6 * t[1]) for n, t in seconds.items()},
        "time_over_the_slower": float(both[0] / max(times[0] for times in alone)),
        "time_over_the_sum": float(both[0] / sum(times[0] for times in alone)),
        "processor_time_over_the_sum": float(both[1] / sum(times[1] for times in alone)),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pools", type=int, default=2)
    parser.add_argument("--batches", default="8,16,32")
    parser.add_argument("--only", choices=("forward", "train"))
    parser.add_argument("--json", metavar="FILE")
    a = parser.parse_args()
    torch.set_num_threads(2)
    lm = language.load("smollm2")
    found = {
        "versions": {
            "jax": jax.__version__,
            "torch": torch.__version__,
            "backend": jax.default_backend(),
            "cores": os.cpu_count(),
        },
        "load_average": os.getloadavg()[0],
    }
    if a.only != "train":
        found["forward"] = forward(lm, [int(size) for size in a.batches.split(",")], a.rounds)
    if a.only != "forward":
        found["train"] = train(lm, int(a.batches.split(",")[0]), a.pools, a.rounds)
    print(json.dumps(found, indent=2))
    if a.json:
        with open(a.json, "w") as file:
            json.dump(found, file, indent=2)


if __name__ == "__main__":
    main()
