"""Feature splitting: what becomes of the latents of a dictionary in wider ones, and what is new there.

    dictlearn harvest --config=experiments/topk_scaling.py                 (once; the same activations)
    dictlearn train   --config=experiments/feature_splitting.py            (or `smoke`, `pod` of both)

SmolLM2-135M-Instruct (4-bit weights), residual stream after block 9, 440,000 tokens of Wikipedia leads. TopK at
k 16, four widths, two seeds each, 500 steps of 512. The analysis `splitting` compares every width with every
wider one, and the seeds of each width with each other; a child is a latent whose atom has a cosine of at least
0.7 with its parent's.

Claims: a latent of a narrow dictionary splits into several of a wider one, each of which fires on a part of its
tokens (Bricken et al. 2023). Wider dictionaries also have latents that no narrower one has, and more of them
the wider they are (Leask et al. 2025).

Expected: not yet measured.
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
