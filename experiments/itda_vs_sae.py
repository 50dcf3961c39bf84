"""ITDA and TopK on the same tokens: CE score and explained variance against L0, tokens and time.

    dictlearn harvest --config=experiments/quickstart.py           (once; the same activations)
    dictlearn train   --config=experiments/itda_vs_sae.py
    for s in 10 20 50 100 200; do dictlearn train --config=experiments/itda_vs_sae.py:topk --config.steps=$s \
        --config.members.topk.sweep.k='(16,)' --workdir=runs/itda_time/topk_$s; done         (itda: 2 5 10 20)
    dictlearn analyse cost runs/itda_time/* --workdir=runs/itda_time

SmolLM2-135M-Instruct (4-bit), residual stream after block 9, one pass over 102,400 tokens, 1536 latents or
atoms, k of 8, 16 and 32. `:topk`, `:itda` or `:itda_size` trains only that kind.

Claim (Leask et al. 2025, section 4): ITDA needs far fewer tokens than an SAE, and its reconstructions come
close to TopK's without reaching them.

Expected (8,192 held-out tokens; dead fraction of ITDA 0; jax 0.10.2, 2 CPU cores):

               explained variance        CE score                  L0
    k          8      16     32          8      16     32          8     16    32
    topk       0.686  0.727  0.763       0.884  0.910  0.934       8.0  16.0  32.0
    itda       0.633  0.692  0.754       0.840  0.890  0.935       6.4  13.4  28.2
    itda_size  0.582  0.653  0.730       0.827  0.881  0.928       6.4  13.5  28.5

At L0 16: topk 0.727 (CE score 0.910), itda 0.707 (0.900), itda_size 0.670 (0.892). Explained variance of the
current batch against tokens seen, k 16:

    tokens     5,120  10,240  20,480  51,200  102,400
    topk       0.309   0.487   0.603   0.669    0.727
    itda       0.695   0.684   0.687   0.678    0.689
    itda_size  0.626   0.616   0.629   0.628    0.644

One dictionary, k 16, each column a separate run whose rate falls to zero at its end (`cost`: seconds of
training without compiling, two idle cores):

    topk   tokens               5,120   10,240   25,600   51,200   102,400
           seconds               0.25     0.38     0.98     2.77      3.81
           CE score             0.612    0.747    0.846    0.886     0.909
           explained variance   0.312    0.488    0.623    0.682     0.727
    itda   tokens               1,024    2,560    5,120   10,240
           seconds               0.22     0.23     0.39     0.72
           CE score             0.850    0.881    0.890    0.890
           explained variance   0.637    0.684    0.692    0.692

At a tolerance of 0.2 the 1536 rows are full after 5,120 tokens (at k 32 soon after), and nothing changes from
there. The CE score that ITDA has after 0.39 seconds (0.23 for 0.881) takes TopK half of its 102,400 tokens, 2.8
seconds: seven to twelve times as long. TopK improves further, to 0.909 after ten times ITDA's time. `itda_size`
is the threshold that just fills the rows in one pass: it keeps what is explained worst, outliers among it, and
reconstructs less well. With 1024 rows, k 16, 51,200 tokens, explained variance of the last fifth is 0.628 with
size 1024. By tolerance: 0 (the first tokens) 0.647, 0.2 0.664, 0.3 0.653, 0.4 0.630 (980 atoms), 0.5 0.600 (583
atoms). In batches of 64 instead of 512: tolerance 0.3 0.634.
"""

from ml_collections import ConfigDict

K = {"sweep": {"k": (8, 16, 32)}}


def members(n_latents: int) -> dict:
    """NAME: what it has of its own."""
    atoms = lambda **how: {"dictionary": {"name": "itda"}, "learner": {"name": "itda", **how}} | K
    return {
        "topk": {"dictionary": {"name": "topk", "aux_k": 32}} | K,
        "itda": atoms(tolerance=0.2),
        "itda_size": atoms(size=n_latents),
    }


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` shrinks it; `smoke,NAME,NAME` or `NAME,NAME` keeps those kinds."""
    words = [word for word in arg.split(",") if word]
    smoke = "smoke" in words
    n_latents = 192 if smoke else 1536
    every = members(n_latents)
    chosen = [word for word in words if word != "smoke"] or list(every)
    unknown = sorted(set(chosen) - set(every))
    if unknown:
        raise ValueError(f"itda_vs_sae has no {unknown}; there are smoke, {', '.join(every)}.")
    config = ConfigDict()
    config.seed = 0
    config.steps = 20 if smoke else 200
    config.batch_size = 256 if smoke else 512
    config.log_every = 10
    config.checkpoint_every = 100

    config.model = {"name": "smollm2"}
    config.stream = {
        "name": "store",
        "path": "runs/quickstart/activations",
        "normalise": "unit_mean_sq",
    }
    config.dictionary = {"n_latents": n_latents}
    if "topk" in chosen:
        config.objective = {"name": "fvu"}
        config.rule = {"name": "adam", "lr": 4e-3, "warmup_steps": 10, "decay_fraction": 0.3}
        config.learner = {"dead_after": 60_000}
    config.members = {name: every[name] for name in chosen}
    config.evaluate = {"n_tokens": 1024 if smoke else 8192, "n_sequences": 8}
    config.analyses = {"frontier": {"l0": 16.0}} if len(chosen) > 1 else {}
    return config
