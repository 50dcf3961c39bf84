"""A million latents on a slice of a TPU pod: d 4096, k 64, 65,536 tokens a step, computed in bfloat16.

    dictlearn plan  --config=experiments/million.py --topology=v5p:4x4x4 --d_in=4096
    dictlearn train --config=experiments/million.py        (on the slice, from a store)

Arguments: topk, batch_topk; wide, 2^24 latents for 512 chips; v5e, 2^17 latents for 16 of the smallest chips;
smoke, 2048 latents of planted activations on any device. docs/scale.md has the plans of all.

Claim: a chip's memory and its traffic depend on its own share of tokens and latents, not on the number of
chips.

Expected: what `plan` says, in docs/scale.md; never run on TPUs. smoke, 200 steps on 2 CPU cores (jax 0.10.2):
explained variance 0.57, L0 7.7, dead latents 0.1 %.
"""

from ml_collections import ConfigDict

SIZES = {
    "topk": (2**20, 65_536, 1, 8),
    "batch_topk": (2**20, 65_536, 1, 8),
    "wide": (2**24, 65_536, 2, 64),
    "v5e": (2**17, 16_384, 1, 4),
    "smoke": (2048, 1024, 1, 1),
}
"""Latents, tokens a step, parts of a batch, ways in which the latents are split."""


def get_config(arg: str = "topk") -> ConfigDict:
    """`arg`: see above."""
    if arg not in SIZES:
        raise ValueError(f"million takes no {arg!r}; there are {', '.join(SIZES)}.")
    n_latents, batch_size, accumulate, model = SIZES[arg]
    smoke = arg == "smoke"
    config = ConfigDict()
    config.seed = 0
    config.steps = 200 if smoke else 100_000
    config.batch_size = batch_size
    config.mesh = {"model": model}

    config.stream = {"name": "store", "normalise": "unit_mean_sq"}
    if smoke:
        config.stream = {"name": "synthetic", "kind": "p1", "d_in": 64, "n_features": 512}
    name = arg if arg == "batch_topk" else "topk"
    config.dictionary = {"name": name, "n_latents": n_latents, "k": 8 if smoke else 64}
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 1e-3 if smoke else 5e-5, "warmup_steps": 10}
    config.learner = {"compute_dtype": "bfloat16", "accumulate": accumulate}
    config.evaluate = {"n_tokens": 4096}
    return config
