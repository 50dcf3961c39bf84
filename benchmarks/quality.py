"""Explained variance, compared with the PyTorch peers: dictionaries of one kind on the same tokens.

    pip install torch==2.13.0 sae-lens==6.54.12 dictionary-learning==0.1.0
    python benchmarks/quality.py [--data=planted|STORE] [--rates=1,3,10] [--seeds=3]

STORE is the folder that `dictlearn harvest` wrote; planted is the data of `benchmarks/recommended.py`. Ours has
its recommended settings. Peers run their own trainers at their own defaults, once for each of --rates, which
multiply their default learning rate; warm-ups longer than a fifth of the run are cut to a fifth. Inputs are
scaled as in the peers' examples: mean squared norm 1 for dictionary_learning, mean norm sqrt(d) for SAELens.
All see the same batches in the same order. Matryoshka has prefixes n/16, n/4, n everywhere.

Measured alike for all, in inference form, on held-out tokens: FVU = sum |x - xhat|^2 / sum |x - mean|^2, L0
and the share of latents that never fire on them. A JumpReLU of SAELens takes no L0: its coefficient is
its default, and what L0 it comes out at is in the table. Its figures can be compared only where L0 is the same.
"""

import argparse
import contextlib
import io
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from recommended import Run, held_out, measured, report, run_of, sizes, stream_of, trained

from dictlearn import streams
from dictlearn.streams import Stream


class Cell(NamedTuple):
    """What is trained: name is ours or a peer's, rate the multiple of its default rate."""

    kind: str
    name: str
    rate: float
    seed: int


Watch = Callable[[int, Callable[[], Run]], None]
"""Called before each step with its number and what gives the dictionary so far."""


def prefixes(n_latents: int) -> tuple[int, ...]:
    return n_latents // 16, n_latents // 4, n_latents


def torch_run(encode, decode, scale: float) -> Run:
    """A peer's inference form, on our scale of the input."""
    import torch

    def run(x_BD):
        with torch.no_grad():
            codes_BF = encode(torch.tensor(scale * x_BD))
            return decode(codes_BF).numpy() / scale, codes_BF.numpy()

    return run


def unwatched(step: int, made: Callable[[], Run]) -> None:
    pass


def tensors(
    stream: Stream, scale: float, steps: int, watch: Watch, made: Callable[[], Run]
) -> Iterator:
    import torch

    for step, batch in zip(range(steps), streams.read(stream), strict=False):
        watch(step, made)
        yield torch.tensor(scale * np.asarray(batch.x_BD))


def dictionary_learning(
    cell: Cell, args: argparse.Namespace, stream: Stream, watch: Watch = unwatched
) -> Run:
    import torch
    from dictionary_learning import trainers
    from dictionary_learning.trainers import matryoshka_batch_top_k as matryoshka
    from dictionary_learning.training import trainSAE

    steps = args.tokens // args.batch
    warm, sparse = min(1000, steps // 5), {"sparsity_warmup_steps": min(2000, steps // 5)}
    common = {
        **{"steps": steps, "activation_dim": stream.d_in, "dict_size": args.n_latents},
        **{"layer": 0, "lm_name": "none", "seed": cell.seed, "device": "cpu", "warmup_steps": warm},
    }
    k = {"k": round(args.l0), "threshold_start_step": warm}
    shares = np.diff((0, *prefixes(args.n_latents))) / args.n_latents
    of = {
        "topk": (trainers.top_k.TopKTrainer, k),
        "batch_topk": (trainers.batch_top_k.BatchTopKTrainer, k),
        "matryoshka": (
            matryoshka.MatryoshkaBatchTopKTrainer,
            {**k, "group_fractions": shares.tolist()},
        ),
        "jumprelu": (
            trainers.jumprelu.JumpReluTrainer,
            {"target_l0": float(args.l0), **sparse},
        ),
        "gated": (trainers.gdm.GatedSAETrainer, sparse),
    }
    trainer, own = of[cell.kind]
    made: list = []

    def scaled(**settings):
        made.append(trainer(**settings))
        for group in made[0].optimizer.param_groups:
            group["lr"] = group["initial_lr"] = cell.rate * group.get("initial_lr", group["lr"])
        scheduler = getattr(made[0], "scheduler", None)
        if scheduler is not None:
            scheduler.base_lrs = [cell.rate * each for each in scheduler.base_lrs]
        return made[0]

    torch.manual_seed(cell.seed)
    scale = 1 / stream.d_in**0.5  # ours has mean norm sqrt(d); theirs is near mean square 1
    settings = {"trainer": scaled, **common, **own}
    run = lambda: torch_run(made[0].ae.encode, made[0].ae.decode, scale)
    data = tensors(stream, scale, steps, watch, run)
    trainSAE(data, [settings], steps, device="cpu")
    return run()


def sae_lens(cell: Cell, args: argparse.Namespace, stream: Stream, watch: Watch = unwatched) -> Run:
    import torch
    from sae_lens import saes
    from sae_lens.config import SAETrainerConfig
    from sae_lens.saes.sae import SAE
    from sae_lens.training.sae_trainer import SAETrainer

    of = {
        "topk": ("TopK", {"k": round(args.l0)}),
        "batch_topk": ("BatchTopK", {"k": float(args.l0)}),
        "matryoshka": (
            "MatryoshkaBatchTopK",
            {"k": float(args.l0), "matryoshka_widths": list(prefixes(args.n_latents))},
        ),
        "jumprelu": ("JumpReLU", {}),
        "gated": ("Gated", {}),
    }
    name, own = of[cell.kind]
    settings = getattr(saes, f"{name}TrainingSAEConfig")
    config = settings(d_in=stream.d_in, d_sae=args.n_latents, device="cpu", **own)
    torch.manual_seed(cell.seed)
    sae = getattr(saes, f"{name}TrainingSAE")(config)
    steps = args.tokens // args.batch
    plain = SAETrainerConfig(total_training_samples=1, train_batch_size_samples=1)
    training = SAETrainerConfig(
        total_training_samples=steps * args.batch,
        train_batch_size_samples=args.batch,
        lr=cell.rate * plain.lr,
        lr_end=cell.rate * plain.lr / 10,
    )

    def run() -> Run:
        inference = SAE.from_dict(sae.cfg.get_inference_sae_cfg_dict())
        state = {name: value.clone() for name, value in sae.state_dict().items()}
        sae.process_state_dict_for_saving_inference(state)
        inference.load_state_dict(state)
        return torch_run(inference.encode, inference.decode, 1.0)

    SAETrainer(training, sae, tensors(stream, 1.0, steps, watch, run)).fit()
    return run()


OURS, PEERS = "dictlearn", {"SAELens": sae_lens, "dictionary_learning": dictionary_learning}


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for cell in cells(args):
        stream = stream_of(args, cell.seed)
        held_BD, started = held_out(stream, args.tokens, args.batch), time.perf_counter()
        if cell.name == OURS:
            own = {"prefixes": prefixes(args.n_latents)} if cell.kind == "matryoshka" else {}
            run = run_of(trained(cell.kind, cell.seed, args, stream.d_in, **own))
        else:
            with contextlib.redirect_stdout(io.StringIO()):
                run = PEERS[cell.name](cell, args, stream)
        seconds = time.perf_counter() - started
        yield {**cell._asdict(), **measured(run, held_BD), "seconds": seconds}


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        for kind in args.kinds.split(","):
            yield Cell(kind, OURS, 1.0, seed)
            for name in filter(None, args.peers.split(",")):
                for rate in map(float, args.rates.split(",")):
                    yield Cell(kind, name, rate, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", default="topk,batch_topk,matryoshka,jumprelu")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--rates", default="1")
    sizes(parser)
    args = parser.parse_args()
    report(rows(args), args.json)


if __name__ == "__main__":
    main()
