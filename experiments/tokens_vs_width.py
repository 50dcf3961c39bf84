"""Tokens against width: how many more tokens of training a wider dictionary needs.

    dictlearn harvest --config=experiments/topk_scaling.py                 (once; the same activations)
    dictlearn train   --config=experiments/tokens_vs_width.py              (or `smoke`, `pod` of both)
    dictlearn fit     --workdir=runs/tokens_vs_width --law=convergence
    dictlearn fit     --workdir=runs/tokens_vs_width --law=tokens --at=n=512        (and so on)

SmolLM2-135M-Instruct (4-bit weights), residual stream after block 9, 440,000 tokens of Wikipedia leads, each
read once at most. TopK at k 16, four widths x six lengths, each length with its own schedule. The law `tokens`
says what each width lacks after T tokens. The law `convergence` has one curve for all widths, whose level is a
power of width: `needed_tokens_exponent` is the power with which the tokens grow.

Claim (Gao et al. 2024, section 3.1): the tokens to convergence are a power of the number of latents, n^0.60 for
GPT-2 small and n^0.65 for GPT-4.

Expected: not yet measured.
"""

from ml_collections import ConfigDict

SIZES = {
    "": {"n": (64, 128, 256, 512), "steps": (50, 100, 200, 400, 800, 1600)}
    | {"batch": 256, "evaluate": 16_384, "flops": 1e14},
    "smoke": {"n": (32, 64, 128), "steps": (5, 10, 20), "batch": 64}
    | {"evaluate": 1024, "flops": 1e11},
    "pod": {"n": tuple(2**i for i in range(11, 18)), "batch": 8192, "evaluate": 1_000_000}
    | {"steps": tuple(3000 * 2**i for i in range(7)), "flops": 1e20},
}


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` or `pod`."""
    if arg not in SIZES:
        raise ValueError(f"tokens_vs_width takes no {arg!r}; there are smoke and pod.")
    size = SIZES[arg]
    config = ConfigDict()
    config.seed = 0
    config.steps, config.batch_size = max(size["steps"]), size["batch"]
    config.log_every = 10 if arg != "pod" else 1000
    config.model = {"name": "smollm2"}
    config.stream = {
        "name": "store",
        "path": f"runs/topk_scaling{arg and f'-{arg}'}/activations",
        "normalise": "unit_mean_sq",
    }
    config.dictionary = {"name": "topk", "k": 16, "aux_k": 32}
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 1e-3, "lr_law": "sqrt_latents", "decay_fraction": 0.3}
    config.rule["warmup_steps"] = 10 if arg != "pod" else 1000
    config.learner = {"dead_after": 20_000 if arg != "pod" else 10_000_000}
    config.sweep = {"n_latents": size["n"], "steps": size["steps"]}
    config.evaluate = {"n_tokens": size["evaluate"], "n_sequences": 0}
    config.budget = {"flops": size["flops"]}
    if arg == "pod":
        config.mesh = {"data": 16, "model": 4}
    return config
