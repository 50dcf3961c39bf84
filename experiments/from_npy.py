"""Any dictionary on your own activations: a `.npy` array [N, D], memory-mapped.

    dictlearn train  --config=experiments/from_npy.py:activations.npy --workdir=runs/mine
    dictlearn export --workdir=runs/mine --format=npz --out=dictionaries

A transcoder: --config.stream.target_path=targets.npy. Another variant: --config.dictionary.name=batch_topk.
The last 5 % of the rows are held out; the numbers in `metrics.json` are of those.

Expected: depends on your data; `explained_variance` rises with `n_latents` and with `k`.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "activations.npy") -> ConfigDict:
    """`arg`: the array's path, `smoke`, or `smoke,PATH`; smoke shrinks it to a minute on a CPU."""
    smoke = arg.split(",")[0] == "smoke"
    path = arg.removeprefix("smoke").removeprefix(",") or "activations.npy"
    config = ConfigDict()
    config.seed = 0
    config.steps = 100 if smoke else 10_000
    config.batch_size = 256 if smoke else 4096
    config.log_every = 10 if smoke else 100
    config.checkpoint_every = 50 if smoke else 1000

    config.stream = {"name": "npy", "path": path, "normalise": "unit_mean_sq"}
    config.dictionary = {"name": "topk", "aux_k": 32}
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 1e-3, "warmup_steps": 10 if smoke else 1000}
    config.learner = {"dead_after": 10_000 if smoke else 1_000_000}
    config.sweep = {
        "n_latents": (128,) if smoke else (4096,),
        "k": (8, 16) if smoke else (16, 32, 64),
    }

    config.evaluate = {"n_tokens": 4096 if smoke else 65_536}
    return config
