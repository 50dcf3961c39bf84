"""One dictionary of an array of your own, [N, D] float32, with recommended settings.

    dictlearn train  --config=experiments/from_npy.py:activations.npy --workdir=runs/mine
    dictlearn export --workdir=runs/mine --format=npz --out=dictionaries

Another kind, width or sparsity: `from_npy.py:activations.npy,kind=jumprelu,n_latents=8192,l0=64`; `tokens` is
the length of the run. A transcoder: --config.stream.target_path=targets.npy. All that is recommended may be
set, --config.rule.lr=5e-4, or swept, --config.sweep.k='(16, 32)'. The last 5 % of the rows are held out; the
numbers in `metrics.json` are of those.

Expected: depends on your data; `explained_variance` rises with `n_latents` and with `l0`.
"""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dictlearn import recommended

NUMBERS = {"n_latents": 4096, "l0": 32, "tokens": 40_000_000}
SMOKE = {"n_latents": 128, "l0": 8, "tokens": 25_600}


def width(path: str) -> int:
    """D; 1 where the stream will say what is wrong with the array."""
    try:
        shape = np.load(path, mmap_mode="r").shape
    except (OSError, ValueError):
        return 1
    return max(1, shape[-1]) if len(shape) == 2 else 1


def get_config(arg: str = "activations.npy") -> ConfigDict:
    """`arg`: the array's path, then words of the form NAME=VALUE, and `smoke` for a minute on a CPU."""
    words = [word for word in arg.split(",") if word]
    smoke = "smoke" in words
    given = dict(word.split("=", 1) for word in words if "=" in word)
    paths = [word for word in words if "=" not in word and word != "smoke"]
    path = paths[0] if paths else "activations.npy"
    kind = given.pop("kind", "topk")
    settings: dict[str, Any] = dict(SMOKE if smoke else NUMBERS)
    for name, value in given.items():
        if name not in settings or not value.isdigit():
            raise ValueError(
                f"from_npy takes no {name}={value}; it takes kind=NAME, and whole numbers as "
                f"{', '.join(settings)}."
            )
        settings[name] = int(value)
    found = recommended(kind, d_in=width(path), **settings)
    config = ConfigDict(found)
    config.seed = 0
    config.log_every = 10 if smoke else 100
    config.checkpoint_every = 50 if smoke else 1000
    config.sweep = {}
    config.stream = {"name": "npy", "path": path, **config.stream}
    config.evaluate = {"n_tokens": 4096 if smoke else 65_536}
    return config
