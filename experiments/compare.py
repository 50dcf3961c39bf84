"""Every kind of dictionary on one stream, at matched L0: one table, one figure.

    dictlearn harvest --config=experiments/quickstart.py           (once; the same activations)
    dictlearn train   --config=experiments/compare.py
    dictlearn compare --config=experiments/compare.py --l0=16

SmolLM2-135M-Instruct (4-bit), residual stream after block 9, 105,000 tokens; 768 latents, batches of 512, 100
steps (half a pass), Adam at 4e-3. Each kind is trained at three settings of what decides its L0, all three one
program, all kinds on the same batches; `compare` reads each curve at one L0 and draws them all. About twenty
minutes on two CPU cores, most of it compiling and the pursuit kinds.

Expected (explained variance at L0 16 on 8,192 held-out tokens; jax 0.10.2; a short run, so kinds that start
far from their L0 are behind):

    mp 0.707              topk_multi 0.673      abs_topk 0.658        p_anneal 0.575
    icfl 0.703            topk 0.670            matryoshka 0.655      lista 0.448
    batch_topk 0.675      csr 0.670             group_max 0.653       masked 0.431
    mutual_choice 0.675   archetypal 0.667      gated 0.619           codebook -0.28
    feature_choice 0.673                        relu_april 0.580

At L0 24: mp 0.739 (CE score 0.926), batch_topk 0.703 (0.905), topk 0.694 (0.893), relu 0.586 (0.783), fista
0.457 (0.634). jumprelu spans 11 to 22 (0.69 at L0 21). psd's tanh encoder is never zero: its L0 is the width.
A dash in the table says that a curve does not reach the L0.
"""

from ml_collections import ConfigDict

K = {"sweep": {"k": (8, 16, 32)}}
K_MEAN = {"sweep": {"k": (8.0, 16.0, 32.0)}}
FREE = {"rule": {"unit_norm": False}}


def members(steps: int) -> dict:
    """NAME: what it has of its own."""
    kind = lambda name, **fields: {"dictionary": {"name": name, **fields}}
    l1 = lambda *values: {"sweep": {"l1": values}}
    return {
        "relu": kind("relu") | l1(0.03, 0.1, 0.2),
        "relu_april": kind("relu", weight_by_norm=True, subtract_b_dec=False)
        | l1(0.02, 0.05, 0.1)
        | FREE,
        "relu_tanh": kind("relu", penalty="tanh") | l1(0.03, 0.06, 0.12),
        "p_anneal": kind("p_anneal", anneal_start=steps // 4, anneal_end=3 * steps // 4)
        | l1(0.02, 0.05, 0.1),
        "jumprelu": kind(
            "jumprelu", penalty="target_l0", sparsity=0.1, bandwidth=0.05, threshold_start=0.05
        )
        | {"sweep": {"target_l0": (8.0, 16.0, 32.0)}},
        "gated": kind("gated") | l1(0.05, 0.1, 0.2),
        "topk": kind("topk", aux_k=32) | K,
        "topk_multi": kind("topk", aux_k=32, multi=0.125) | K,
        "abs_topk": kind("abs_topk") | K,
        "group_max": kind("group_max", aux_k=32) | K,
        "batch_topk": kind("batch_topk", aux_k=32) | K_MEAN,
        "matryoshka": kind("matryoshka", aux_k=32) | K_MEAN,
        "mutual_choice": kind("mutual_choice", aux_k=32) | K_MEAN,
        "feature_choice": kind("feature_choice", choose_after=steps // 4) | K_MEAN,
        "archetypal": kind("archetypal") | K,
        "csr": kind("csr") | K,
        "mp": kind("mp") | K,
        "icfl": kind("icfl") | K | {"revive": {"name": "redraw"}},
        "codebook": kind("codebook") | K,
        "masked": kind("masked") | K,
        "fista": kind("fista", iterations=10) | l1(0.05, 0.1, 0.2),
        "lista": kind("lista", iterations=10) | l1(0.02, 0.05, 0.1),
        "psd": kind("psd", iterations=10) | l1(0.02, 0.05, 0.1),
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
        raise ValueError(f"compare has no {', '.join(unknown)}; there are {', '.join(every)}.")
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
    config.meters = {"n_tokens": 1024 if smoke else 8192, "n_sequences": 8}
    return config
