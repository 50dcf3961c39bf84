"""Feature splitting: what becomes of the latents of a dictionary in wider ones, and what is new there.

    dictlearn harvest --config=experiments/topk_scaling.py                 (once; the same activations)
    dictlearn train   --config=experiments/feature_splitting.py            (or `smoke`, `pod` of both)
    dictlearn analyse splitting --workdir=runs/feature_splitting --splitting.tau=0.5 --splitting.n_tokens=16384

SmolLM2-135M-Instruct (4-bit weights), residual stream after block 9, 440,000 tokens of Wikipedia leads. TopK at
k 16, four widths, two seeds each, 500 steps of 512. The analysis `splitting` compares every width with every
wider one, and the seeds of each width with each other. A child is a latent whose atom has a cosine of at least
0.7 with its parent's (Leask et al.), or of 0.5; the largest of random atoms is 0.12 to 0.14.

Claims: a latent of a narrow dictionary splits into several of a wider one, each of which fires on a part of its
tokens (Bricken et al. 2023). Wider dictionaries also have latents that no narrower one has, and more of them
the wider they are (Leask et al. 2025).

Expected (jax 0.10.2; under three minutes of computing on two cores; means over the pairs of seeds, which differ
by at most 0.08, in what is lost by 0.13):

    narrower                          256                            512                   1024          2048
    wider                             256*   512    1024   2048      512*   1024   2048    1024*  2048   2048*
    split at 0.5                      0.06   0.22   0.32   0.37      0.08   0.21   0.30    0.07   0.17   0.07
    lost at 0.5                       0.35   0.21   0.22   0.26      0.39   0.24   0.23    0.46   0.34   0.59
    new at 0.5                        0.28   0.48   0.71   0.84      0.31   0.50   0.72    0.38   0.58   0.52
    of a child's tokens, its parent's 0.58   0.68   0.72   0.75      0.55   0.61   0.65    0.51   0.57   0.48
    of the parent's, a child's        0.76   0.62   0.53   0.44      0.70   0.60   0.53    0.60   0.57   0.62
    split at 0.7                      0.00   0.01   0.02   0.01      0.00   0.01   0.01    0.00   0.01   0.00
    new at 0.7                        0.59   0.76   0.90   0.96      0.64   0.80   0.92    0.74   0.85   0.85

    * two seeds of one width

Latents split, and more of them the wider the other dictionary is, at 0.5; at 0.7 next to none do, and 0.5 was
chosen after that was seen. Children fire on tokens of their parent at least ten times as often as on those of
other latents (0.01 to 0.06). What is new grows with width, but is only in part the width's: two seeds of one
width have new latents too, and after 256 thousand tokens those of 2048 share fewer than those of 256.
"""

from ml_collections import ConfigDict

SIZES = {
    "": {"n": (256, 512, 1024, 2048), "k": 16, "steps": 500, "batch": 512, "evaluate": 16_384},
    "smoke": {"n": (48, 96), "k": 4, "steps": 20, "batch": 128, "evaluate": 1024},
    "pod": {"n": tuple(2**i for i in range(12, 18)), "k": 32, "steps": 100_000, "batch": 8192}
    | {"evaluate": 1_000_000},
}


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` or `pod`."""
    if arg not in SIZES:
        raise ValueError(f"feature_splitting takes no {arg!r}; there are smoke and pod.")
    size = SIZES[arg]
    config = ConfigDict()
    config.seed = 0
    config.steps, config.batch_size = size["steps"], size["batch"]
    config.log_every = max(1, size["steps"] // 40)
    config.checkpoint_every = size["steps"]
    config.model = {"name": "smollm2"}
    config.stream = {
        "name": "store",
        "path": f"runs/topk_scaling{arg and f'-{arg}'}/activations",
        "normalise": "unit_mean_sq",
    }
    config.dictionary = {"name": "topk", "k": size["k"], "aux_k": 32}
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 1e-3, "lr_law": "sqrt_latents", "decay_fraction": 0.3}
    config.rule["warmup_steps"] = 10 if arg != "pod" else 1000
    config.learner = {"dead_after": 20_000 if arg != "pod" else 10_000_000}
    config.sweep = {"n_latents": size["n"], "seed": (0, 1)}
    config.evaluate = {"n_tokens": size["evaluate"], "n_sequences": 0}
    config.analyses = {"splitting": {"n_tokens": size["evaluate"]}}
    if arg == "pod":
        config.mesh = {"data": 16, "model": 4}
    return config
