"""Recovery of planted dictionaries: TopK on P1 small, alone and over-complete, with and without AuxK.

    dictlearn train --config=experiments/planted.py            (or :batch_topk, :relu, :smoke)

P1 small: 64 unit atoms in 32 dimensions, each on with probability 3/64, coefficients U[0.5, 1.5], noise 0.01;
batches of 512, 2500 steps, Adam at 2e-3. `dictlearn.restore(workdir)` gives the dictionaries and
`streams.make("synthetic", ...).truth` the atoms to match them with (tests/test_planted.py does).

Expected (share of atoms with a decoder row at cosine >= 0.9; seeds 0 and 1):

    variant      n 64          n 128
    topk         0.95  0.91    1.00  0.98
    batch_topk   0.73  0.70    0.88  0.88
    relu         0.95  0.97    1.00  1.00
"""

from ml_collections import ConfigDict

OWN = {
    "topk": {"k": 3, "aux_k": 16},
    "batch_topk": {"k": 3.0, "aux_k": 16},
    "relu": {"sparsity": 0.3},
}


def get_config(arg: str = "topk") -> ConfigDict:
    """`arg`: the variant, or `smoke`, which runs 300 steps of topk."""
    name = "topk" if arg in ("", "smoke") else arg
    if name not in OWN:
        raise ValueError(f"planted takes no {arg!r}; there are {', '.join(OWN)}, smoke.")
    config = ConfigDict()
    config.seed = 0
    config.steps = 300 if arg == "smoke" else 2500
    config.batch_size = 512
    config.log_every = 100
    config.checkpoint_every = 500

    config.stream = {"name": "synthetic", "kind": "p1"}
    config.dictionary = {"name": name, **OWN[name]}
    config.objective = {"name": "squared_error"}
    config.rule = {"name": "adam", "lr": 2e-3, "warmup_steps": 100, "decay_fraction": 0.5}
    config.learner = {"dead_after": 20 * 512, "b_dec_start": "zeros"}
    config.sweep = {"n_latents": (64, 128), "seed": (0, 1)}

    config.evaluate = {"n_tokens": 16_384}
    return config
