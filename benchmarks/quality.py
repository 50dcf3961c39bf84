"""Explained variance, compared with the PyTorch peers: BatchTopK, Matryoshka and JumpReLU on the same tokens.

    pip install torch==2.13.0 sae-lens==6.54.12 dictionary-learning==0.1.0
    dictlearn harvest --config=experiments/quickstart.py
    python benchmarks/quality.py [--store=runs/quickstart/activations] [--steps=1000] [--json=FILE]

SmolLM2-135M, residual stream after block 9, n 4608, k 32, batches of 512 tokens in the same order for all, the
same number of steps. Peers run their own trainers at their own defaults, with two exceptions. Warm-ups longer
than a fifth of this short run are cut to a fifth. Inputs are scaled as in the peers' examples: mean squared
norm 1 for dictionary_learning, mean norm sqrt(d) for SAELens. Matryoshka has prefixes n/16, n/4, n everywhere.

Measured alike for all, in inference form, on 8192 held-out tokens:
EV = 1 - sum |x - xhat|^2 / sum |x - mean|^2.
JumpReLU has no k: a peer's is compared with ours trained towards the L0 that the peer came out at.
"""

import argparse
import contextlib
import functools
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from dictlearn import experiment, sharding, streams
from dictlearn import lm as language
from dictlearn.experiment.stream import open_stream
from dictlearn.ops.firing import l0
from dictlearn.streams._place import place
from dictlearn.streams.store import open_manifest, tokens

N, K, BATCH = 4608, 32, 512
PREFIXES = (N // 16, N // 4, N)
HELD_OUT = 8192


def config(store: str, steps: int) -> dict:
    return {
        "seed": 0,
        "steps": steps,
        "batch_size": BATCH,
        "stream": {"name": "store", "path": store, "normalise": "unit_mean_sq"},
        "dictionary": {"n_latents": N},
        "objective": {"name": "squared_error"},
        "rule": {"name": "adam", "lr": 2e-3, "warmup_steps": steps // 20, "decay_fraction": 0.3},
        "learner": {"dead_after": 100_000},
    }


def held_out(store: str) -> np.ndarray:
    """Normalised activations [8192, D] of the store's tap on its first held-out tokens."""
    lm, tap = language.load("smollm2"), next(iter(open_manifest(store)["recipe"]["taps"]))
    tokens_ST, mask_ST = tokens(store, "held_out")
    rows, count = [], 0
    forward = jax.jit(lambda params, tokens_BT: lm.forward(params, tokens_BT)[1][tap])
    for start in range(0, len(tokens_ST) - 15, 16):
        part = slice(start, start + 16)
        rows.append(np.asarray(forward(lm.params, tokens_ST[part]))[mask_ST[part]])
        count += len(rows[-1])
        if count >= HELD_OUT:
            break
    scale = open_stream(config(store, 1)).norm.scale_in
    return scale * np.concatenate(rows)[:HELD_OUT]


def ours(store: str, steps: int, dictionary: dict, held_BD, **more) -> dict:
    """Trains one of ours; {ev, l0, seconds}."""
    whole = config(store, steps)
    whole = {**whole, "dictionary": {**whole["dictionary"], **dictionary}}
    for name, changes in more.items():
        whole[name] = {**whole[name], **changes}
    mesh = sharding.mesh()
    with jax.set_mesh(mesh):
        stream = open_stream(whole)
        (program,) = experiment.programs(whole, stream.d_in, None)
        sample = streams.make(**{"batch_size": 16_384, "seed": 0, **whole["stream"]}).batch(0)
        state = experiment.init(program, place(sample, mesh), mesh)
        update, started = experiment.update(program, state, mesh), None
        for t, batch in zip(range(steps), streams.read(stream), strict=False):
            state, info = update(state, program.hparams, place(batch, mesh))
            if t == 0:
                jax.block_until_ready(info)
                started = time.perf_counter()
        jax.block_until_ready(state)
        seconds = time.perf_counter() - (started or 0.0)
        variables = jax.tree.map(lambda leaf: leaf[0], program.variables(state))
    module = program.module({})

    @jax.jit
    def run(x_BD):
        codes = module.apply(variables, x_BD, method="encode")
        return module.apply(variables, codes, method="decode"), l0(codes)

    return {**score(run, held_BD), "seconds": seconds}


def score(run, held_BD) -> dict:
    error, active = 0.0, 0.0
    for start in range(0, len(held_BD), 2048):
        x_BD = held_BD[start : start + 2048]
        y_BD, l0_B = (np.asarray(each, np.float64) for each in run(x_BD))
        error += float(((x_BD - y_BD) ** 2).sum())
        active += float(l0_B.sum())
    variance = float(((held_BD - held_BD.mean(0, dtype=np.float64)) ** 2).sum())
    return {"ev": 1 - error / variance, "l0": active / len(held_BD)}


def torch_run(encode, decode, scale: float):
    """A peer's inference form on our scale of the input."""
    import torch

    def run(x_BD):
        with torch.no_grad():
            codes = encode(torch.tensor(scale * x_BD))
            return decode(codes).numpy() / scale, (codes != 0).sum(-1).numpy()

    return run


def tensors(batches: Iterator, scale: float):
    import torch

    for batch in batches:
        yield torch.tensor(scale * np.asarray(batch.x_BD))


def dictionary_learning(kind: str, batches, steps: int, d: int, held_BD) -> dict:
    import torch
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
    from dictionary_learning.training import trainSAE

    warm = min(1000, steps // 5)
    common = {
        **{"steps": steps, "activation_dim": d, "dict_size": N, "layer": 9, "lm_name": "smollm2"},
        **{"seed": 0, "device": "cpu", "warmup_steps": warm},
    }
    shares = np.diff((0, *PREFIXES)) / N
    of = {
        "batch_topk": {"trainer": BatchTopKTrainer, "k": K, "threshold_start_step": warm},
        "matryoshka": {
            **{"trainer": MatryoshkaBatchTopKTrainer, "k": K, "threshold_start_step": warm},
            "group_fractions": shares.tolist(),
        },
        "jumprelu": {
            **{"trainer": JumpReluTrainer, "target_l0": float(K)},
            "sparsity_warmup_steps": min(2000, steps // 5),
        },
    }
    made, own = [], of[kind].pop("trainer")

    def trainer(**settings):
        made.append(own(**settings))
        return made[0]

    torch.manual_seed(0)
    started = time.perf_counter()
    settings = {"trainer": trainer, **common, **of[kind]}
    data = (x for _, x in zip(range(steps), tensors(batches, 1.0), strict=False))
    trainSAE(data, [settings], steps, device="cpu")
    seconds = time.perf_counter() - started
    sae = made[0].ae
    return {**score(torch_run(sae.encode, sae.decode, 1.0), held_BD), "seconds": seconds}


def sae_lens(kind: str, batches, steps: int, d: int, held_BD) -> dict:
    import torch
    from sae_lens import saes
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.sae import SAE
    from sae_lens.training.sae_trainer import SAETrainer

    common = {"d_in": d, "d_sae": N, "device": "cpu"}
    of = {
        "batch_topk": lambda: saes.BatchTopKTrainingSAE(
            saes.BatchTopKTrainingSAEConfig(**common, k=K)
        ),
        "matryoshka": lambda: saes.MatryoshkaBatchTopKTrainingSAE(
            saes.MatryoshkaBatchTopKTrainingSAEConfig(
                **common, k=K, matryoshka_widths=list(PREFIXES)
            )
        ),
        "jumprelu": lambda: saes.JumpReLUTrainingSAE(saes.JumpReLUTrainingSAEConfig(**common)),
    }
    torch.manual_seed(0)
    sae, scale = of[kind](), d**0.5
    settings = SAETrainerConfig(
        total_training_samples=steps * BATCH, train_batch_size_samples=BATCH, lr_end=3e-5
    )
    started = time.perf_counter()
    sae = SAETrainer(settings, sae, tensors(batches, scale)).fit()
    seconds = time.perf_counter() - started
    inference = SAE.from_dict(sae.cfg.get_inference_sae_cfg_dict())
    state = sae.state_dict()
    sae.process_state_dict_for_saving_inference(state)
    inference.load_state_dict(state)
    run = torch_run(inference.encode, inference.decode, scale)
    return {**score(run, held_BD), "seconds": seconds}


PEERS = {"SAELens": sae_lens, "dictionary_learning": dictionary_learning}


def mine(kind: str, target_l0: float) -> dict:
    return {
        "batch_topk": {"name": "batch_topk", "k": float(K), "aux_k": 256},
        "matryoshka": {"name": "matryoshka", "k": float(K), "aux_k": 256, "prefixes": PREFIXES},
        "jumprelu": {
            **{"name": "jumprelu", "penalty": "target_l0", "target_l0": target_l0},
            **{"sparsity": 0.1, "bandwidth": 0.05},
            "threshold_start": 0.05 if target_l0 < 10 * K else 0.001,
        },
    }[kind]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="runs/quickstart/activations")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--kinds", default="batch_topk,matryoshka,jumprelu")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    stream = open_stream(config(arguments.store, arguments.steps))
    held_BD = held_out(arguments.store)
    found, run = {}, functools.partial(ours, arguments.store, arguments.steps, held_BD=held_BD)
    for kind in arguments.kinds.split(","):
        rows, targets = {}, {float(K)}
        for name in filter(None, arguments.peers.split(",")):
            batches = streams.read(stream)
            with contextlib.redirect_stdout(io.StringIO()):
                rows[name] = PEERS[name](kind, batches, arguments.steps, stream.d_in, held_BD)
            tell(kind, name, rows[name])
            targets |= {round(rows[name]["l0"], 1)} if kind == "jumprelu" else set()
        for target in sorted(targets):
            name = f"dictlearn at {target:g}" if kind == "jumprelu" else "dictlearn"
            rows[name] = run(dictionary=mine(kind, target))
            tell(kind, name, rows[name])
        found[kind] = rows
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


def tell(kind: str, name: str, row: dict) -> None:
    values = f"EV {row['ev']:.4f}  L0 {row['l0']:7.1f}  {row['seconds']:6.0f} s"
    print(f"{kind:12} {name:24} {values}", flush=True)


if __name__ == "__main__":
    main()
