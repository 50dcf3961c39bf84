"""Recovery of planted dictionaries on P1 small, with recommended settings: as many latents as atoms, and twice.

    dictlearn train --config=experiments/planted.py            (or :batch_topk, :relu, :smoke)

P1 small: 64 unit atoms in 32 dimensions, each on with probability 3/64, coefficients U[0.5, 1.5], noise 0.01;
batches of 512, 2500 steps. `dictlearn.restore(workdir)` gives the dictionaries and
`streams.make("synthetic", ...).truth` the atoms to match them with (tests/test_planted.py does).

Expected (share of atoms with a decoder row at cosine >= 0.9; seeds 0 and 1):

    variant      n 64          n 128
    topk         1.00  0.97    1.00  1.00
    batch_topk   0.98  0.98    1.00  1.00
    relu         0.98  1.00    1.00  1.00
"""

from ml_collections import ConfigDict

from dictlearn import recommended

KINDS = ("topk", "batch_topk", "relu")


def get_config(arg: str = "topk") -> ConfigDict:
    """`arg`: the variant, or `smoke`, which runs 300 steps of topk."""
    name = "topk" if arg in ("", "smoke") else arg
    if name not in KINDS:
        raise ValueError(f"planted takes no {arg!r}; there are {', '.join(KINDS)}, smoke.")
    steps, batch = 300 if arg == "smoke" else 2500, 512
    widths = (64, 128)
    found = recommended(
        name, d_in=32, n_latents=widths[0], tokens=steps * batch, batch_size=batch, l0=3
    )
    config = ConfigDict(found)
    config.seed = 0
    config.log_every = 100
    config.checkpoint_every = 500
    config.stream = {"name": "synthetic", "kind": "p1", **found["stream"]}
    config.sweep = {"n_latents": widths, "seed": (0, 1)}

    config.evaluate = {"n_tokens": 16_384}
    return config
