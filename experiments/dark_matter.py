"""Dark matter: what the error of sparse autoencoders of growing width is made of.

    dictlearn harvest --config=experiments/dark_matter.py                          (or `:smoke`, `:pod`)
    dictlearn train   --config=experiments/dark_matter.py

SmolLM2-135M-Instruct (4-bit), residual stream after block 9, 440,000 tokens of Wikipedia leads. TopK at k 32,
four widths, one pass. The analysis `dark_matter` reads 32,768 held-out tokens, half of which fit its
maps.

Claims (Engels et al. 2024, on Gemma 2 9B with 300 contexts of 1,024 tokens): about half of the error, and over
90 % of its squared norm, are linear in the activations. At a fixed L0 the nonlinear part is about constant in
width, and the linear part falls. Error norms of different widths agree token by token. Gradient pursuit with
the same atoms lowers the error by 3 to 5 %, and not its nonlinear part. The nonlinear part costs the model as
much as its share.

Expected: not measured yet.
"""

from ml_collections import ConfigDict

SIZES = {
    "": {"n": (512, 1024, 2048, 4096), "steps": 400, "batch": 1024, "tokens": 440_000},
    "smoke": {"n": (64, 128), "steps": 20, "batch": 128, "tokens": 4_000},
    "pod": {
        **{"n": (2**14, 2**16, 2**18, 2**20), "steps": 100_000, "batch": 4096},
        "tokens": 400_000_000,
    },
}


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` or `pod`."""
    if arg not in SIZES:
        raise ValueError(f"dark_matter takes no {arg!r}; there are smoke and pod.")
    size, smoke = SIZES[arg], arg == "smoke"
    config = ConfigDict()
    config.seed = 0
    config.steps, config.batch_size = size["steps"], size["batch"]
    config.log_every = 20
    config.checkpoint_every = 1000

    config.model = {"name": "smollm2"}
    config.harvest = {
        "taps": ("resid.9",),
        "text": "wiki",
        "n_tokens": size["tokens"],
        "sequence_length": 64 if smoke else 128,
        "shard_rows": 2048 if smoke else 32_768,
    }
    home = f"runs/dark_matter{'-' * bool(arg)}{arg}"
    stream = {"name": "store", "path": f"{home}/activations", "normalise": "unit_mean_sq"}
    config.stream = stream
    config.dictionary = {"name": "topk", "k": 8 if smoke else 32, "aux_k": 32}
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 2e-3, "warmup_steps": 20, "decay_fraction": 0.3}
    config.learner = {"dead_after": 100_000}
    config.sweep = {"n_latents": size["n"]}
    config.evaluate = {"n_tokens": 1024 if smoke else 8192, "n_sequences": 8}
    config.analyses = {
        "dark_matter": {
            "n_tokens": 3072 if smoke else 32_768,
            "pursuits": ("gradient",),
            "pursuit_k": 8 if smoke else 32,
            "earlier": ("resid.{0,4,8}",),
        }
    }
    return config
