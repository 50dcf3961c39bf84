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

Expected (one seed; jax 0.10.2; four minutes of computing on two cores; 5 to 95 % over resampled runs):

    FVU after 1000 tokens of    12.8   25.6   51.2   102.4  204.8  409.6   endless
    64 latents                  0.495  0.458  0.435  0.423  0.417  0.413   0.407
    128                         0.456  0.416  0.387  0.367  0.356  0.350   0.331
    256                         0.430  0.383  0.349  0.325  0.310  0.301   0.275
    512                         0.414  0.359  0.321  0.292  0.274  0.264   0.236

    L(n, T) = 0.010 + 1.07 n^-0.248 + 7.90 n^0.273 T^-0.580, and so the tokens grow as n^0.47 (0.41 to 0.56)

The exponent is somewhat below the paper's 0.60 of GPT-2 small, whose interval is not known. Widths do need
different numbers of tokens: with one length for all, held-out cells are predicted six times worse (Huber
loss). They are predicted within 1.7 %, and the widest from the narrower ones within 3.4 %. The last column is
the floor of `tokens` at each width; the one of all widths (0.010) is not identified.
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
