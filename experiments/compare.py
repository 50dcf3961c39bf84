"""Every kind of dictionary on one stream, at matched L0: one table, one figure.

    dictlearn harvest --config=experiments/quickstart.py           (once; the same activations)
    dictlearn train   --config=experiments/compare.py

SmolLM2-135M-Instruct (4-bit), residual stream after block 9, 105,000 tokens; 768 latents, batches of 512, 100
steps (half a pass), Adam at 4e-3. Each kind is trained at three settings of the hyperparameter that decides its
L0, as one program. All kinds see the same batches. The analysis `frontier` reads each curve at one L0 and draws
them all. About twenty minutes on two CPU cores, most of it compiling and the pursuit kinds.

Expected (at L0 16 on 8,192 held-out tokens, CE score on 1,024; jax 0.10.2; a short run, so kinds that start far
from their L0 are behind):

                     explained  CE      dead                         explained  CE      dead
                     variance   score                                variance   score
    mp               0.705      0.910   0.00       abs_topk          0.655      0.868   0.00
    icfl             0.702      0.907   0.00       matryoshka        0.653      0.866   0.09
    mutual_choice    0.672      0.881   0.00       group_max         0.650      0.856   0.01
    batch_topk       0.672      0.880   0.02       gated             0.620      0.827   0.14
    feature_choice   0.671      0.879   0.00       relu_april        0.579      0.778   0.57
    topk_multi       0.671      0.878   0.01       p_anneal          0.574      0.773   0.36
    jumprelu         0.670      0.881   0.02       relu_tanh         0.552      0.730   0.03
    csr              0.667      0.867   0.00       relu              0.539      0.746   0.01
    topk             0.667      0.872   0.03       masked            0.447      0.771   0.00
    archetypal       0.667      0.873   0.13       lista             0.443      0.639   0.33
                                                   fista             0.427      0.600   0.18
                                                   codebook          -0.659     0.641   0.01

psd's tanh encoder is never zero: its L0 is the width. Thresholds of those that share k over the batch keep 14
of 16 on held-out tokens after so short a run. A dash in the table says that a curve does not reach the L0.
"""

from ml_collections import ConfigDict

K = {"sweep": {"k": (8, 16, 32)}}
K_MEAN = {"sweep": {"k": (8.0, 16.0, 32.0)}}
FREE = {"rule": {"unit_norm": False}}
SHARED = ("batch_topk", "matryoshka", "mutual_choice")
"""Kinds whose k is a mean over the batch."""


def members(steps: int) -> dict:
    """NAME: what it has of its own."""
    kind = lambda name, **fields: {"dictionary": {"name": name, **fields}}
    by = lambda *values: {"sweep": {"sparsity": values}}
    target = {"penalty": "target_l0", "sparsity": 0.1, "bandwidth": 0.05, "threshold_start": 0.05}
    april = {"norm_weighted": True, "subtract_b_dec": False}
    annealed = {"anneal_start": steps // 4, "anneal_end": 3 * steps // 4}
    return {
        "relu": kind("relu") | by(0.03, 0.1, 0.2),
        "relu_april": kind("relu", **april) | by(0.02, 0.05, 0.1) | FREE,
        "relu_tanh": kind("relu", penalty="tanh") | by(0.003, 0.01, 0.03),
        "p_anneal": kind("p_anneal", **annealed) | by(0.02, 0.05, 0.1),
        "jumprelu": kind("jumprelu", **target) | {"sweep": {"target_l0": (8.0, 16.0, 32.0)}},
        "gated": kind("gated") | by(0.05, 0.1, 0.2),
        "topk": kind("topk", aux_k=32) | K,
        "topk_multi": kind("topk", aux_k=32, multi=0.125) | K,
        "group_max": kind("group_max", aux_k=32) | K,
        **{name: kind(name, aux_k=32) | K_MEAN for name in SHARED},
        "feature_choice": kind("feature_choice", choose_after=steps // 4) | K_MEAN,
        **{name: kind(name) | K for name in ("abs_topk", "archetypal", "csr", "mp")},
        "icfl": kind("icfl") | K | {"revive": {"name": "redraw"}},
        **{name: kind(name) | K for name in ("codebook", "masked")},
        "fista": kind("fista", iterations=10) | by(0.05, 0.1, 0.2),
        **{name: kind(name, iterations=10) | by(0.02, 0.05, 0.1) for name in ("lista", "psd")},
    }


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` shrinks it; `smoke,NAME,NAME` or `NAME,NAME` keeps those kinds."""
    words = [word for word in arg.split(",") if word]
    smoke = "smoke" in words
    steps = 20 if smoke else 100
    every = members(steps)
    chosen = [word for word in words if word != "smoke"] or list(every)
    unknown = sorted(set(chosen) - set(every))
    if unknown:
        raise ValueError(f"compare has no {unknown}; there are smoke, {', '.join(every)}.")
    config = ConfigDict()
    config.seed = 0
    config.steps = steps
    config.batch_size = 512
    config.log_every = 20
    config.checkpoint_every = 200

    config.model = {"name": "smollm2"}
    config.stream = {
        "name": "store",
        "path": "runs/quickstart/activations",
        "normalise": "unit_mean_sq",
    }
    config.dictionary = {"n_latents": 192 if smoke else 768}
    config.objective = {"name": "squared_error"}
    config.rule = {"name": "adam", "lr": 4e-3, "warmup_steps": 10, "decay_fraction": 0.3}
    config.learner = {"dead_after": 60_000, "penalty_warmup_steps": steps // 10}
    config.members = {name: every[name] for name in chosen}
    config.evaluate = {"n_tokens": 1024 if smoke else 8192, "n_sequences": 8}
    config.analyses = {"frontier": {"l0": 16.0}}
    return config
