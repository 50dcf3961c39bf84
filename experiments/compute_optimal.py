"""The best width and length of training for a number of FLOPs, by IsoFLOP lines and by a law L(n, T).

    dictlearn harvest --config=experiments/compute_optimal.py              (or `smoke`, `pod`, here and below)
    dictlearn plan    --config=experiments/compute_optimal.py --measured
    dictlearn train   --config=experiments/compute_optimal.py
    dictlearn fit     --workdir=runs/compute_optimal --law=training
    dictlearn fit     --workdir=runs/compute_optimal --law=convergence
    dictlearn fit     --workdir=runs/compute_optimal --law=compute

SmolLM2-135M-Instruct (4-bit weights), residual stream after block 9, TopK with k = 16. Seven widths x six
lengths, each twice the one before, and each dictionary with a schedule that ends with its length. Dictionaries
of equal n T cost the same: a line of equal FLOPs crosses the grid from wide and short to narrow and long.
`beside.isoflop` of the law `training` has the parabolas' minima along these lines, `derived` the exponents of
the best n and T by the fitted law. The law `compute` is fitted to the runs that no cheaper run beats.

Claim (Templeton et al. 2024, "Scaling laws"; Gao et al. 2024, section 3.1): the best n and the best number of
steps are both powers of the FLOPs, with n growing somewhat faster, and the loss at the best is a power law of
them. The papers give the exponents in figures only.

Expected (normalised error, one seed; 42 dictionaries, 10 minutes of processor time; jax 0.10.2):

    n        50      100     200     400     800     1600 steps of 256 tokens
    64       0.495   0.458   0.435   0.423   0.417   0.413
    256      0.430   0.383   0.349   0.325   0.310   0.301
    1024     0.415   0.350   0.305   0.272   0.250   0.236
    4096     0.447   0.362   0.304   0.258   0.225   0.202

By the six parabolas the best n goes as the 0.49th power of the FLOPs and the best number of tokens as the
0.51st: they grow alike, and n not faster. The loss of the runs that no cheaper run beats is a power law,
C^-0.157 [0.144, 0.170] above a floor that is not identified; it predicts a run it was not fitted to within
1.1 % at worst. The law L(n, T) does not describe this grid (17.7 % at worst), since wide dictionaries are worse
than narrow ones after 50 or 100 steps. `--law=convergence` does (2.1 %, and 0.6 % in the median): the tokens
that a width needs grow as n^0.47 [0.44, 0.53].
"""

from ml_collections import ConfigDict

SIZES = {
    "": {"n": tuple(2**i for i in range(6, 13)), "steps": (50, 100, 200, 400, 800, 1600)}
    | {"batch": 256, "tokens": 440_000, "length": 128, "evaluate": 16_384, "flops": 1e14},
    "smoke": {"n": (32, 64, 128, 256), "steps": (5, 10, 20, 40)}
    | {"batch": 64, "tokens": 4_000, "length": 64, "evaluate": 1024, "flops": 1e11},
    "pod": {"n": tuple(2**i for i in range(11, 20)), "batch": 8192, "tokens": 2_500_000_000}
    | {"steps": tuple(3000 * 2**i for i in range(7)), "length": 1024, "evaluate": 1_000_000}
    | {"flops": 1e20},
}


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` or `pod`."""
    if arg not in SIZES:
        raise ValueError(f"compute_optimal takes no {arg!r}; there are smoke and pod.")
    size = SIZES[arg]
    config = ConfigDict()
    config.seed = 0
    config.steps, config.batch_size = max(size["steps"]), size["batch"]
    config.log_every = 10 if arg != "pod" else 1000
    config.model = {"name": "smollm2"}
    config.harvest = {
        "taps": ("resid.9",),
        "text": "wiki",
        "n_tokens": size["tokens"],
        "sequence_length": size["length"],
    }
    config.stream = {
        "name": "store",
        "path": f"runs/compute_optimal{arg and f'-{arg}'}/activations",
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
