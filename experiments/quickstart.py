"""Scaling curves of TopK autoencoders on a real language model, on two CPU cores in minutes.

    dictlearn harvest --config=experiments/quickstart.py
    dictlearn train   --config=experiments/quickstart.py
    dictlearn fit     --config=experiments/quickstart.py
    dictlearn report  --config=experiments/quickstart.py
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` shrinks it to about a minute."""
    if arg not in ("", "smoke"):
        raise ValueError(f"quickstart takes no {arg!r}; there is smoke.")
    config = ConfigDict()
    config.seed = 0
    config.steps = 600
    config.batch_size = 512
    config.log_every = 50
    config.checkpoint_every = 200

    config.model = {"name": "smollm2"}
    config.harvest = {"taps": ("resid.9",), "n_tokens": 160_000, "held_out": 0.1}
    config.stream = {"name": "store", "path": "runs/quickstart/activations", "normalise": "unit_mean_sq"}

    config.dictionary = {"name": "topk", "aux_k": 64}
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 1e-3, "warmup_steps": 50, "decay_fraction": 0.3}
    config.learner = {"dead_after": 50_000}
    config.sweep = {"n_latents": (384, 768, 1536, 3072), "k": (8, 16, 32), "seed": (0, 1)}

    config.meters = {"n_tokens": 8192, "n_sequences": 8}
    return config
