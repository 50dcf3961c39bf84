"""Scaling curves of TopK autoencoders on a real language model, on two CPU cores in minutes: `make demo`.

    dictlearn harvest --config=experiments/quickstart.py
    dictlearn train   --config=experiments/quickstart.py
    dictlearn fit     --config=experiments/quickstart.py
    dictlearn report  --config=experiments/quickstart.py

SmolLM2-135M-Instruct (4-bit weights, so no number here compares with published ones), residual stream after
block 9. 105,000 tokens of Wikipedia leads in sequences of 128, position 0 and special tokens masked. Four
widths x three values of k x two seeds: 24 dictionaries, each width one program, all on the same batches.

Claim: normalised error falls with n at every k and with k at every n (Gao et al. 2024, figure 1). The joint law
predicts a cell of the grid that it was not fitted to.

Expected (recommended settings; explained variance, mean of two seeds that differ by at most 0.003; 2 CPU cores,
jax 0.10.2):

    n        k 8     k 16    k 32
    384      0.644   0.686   0.730
    768      0.672   0.715   0.753
    1536     0.683   0.730   0.769
    3072     0.694   0.734   0.774

CE score of the best dictionary 0.94. Dead latents: 20 % at most (3072, k 8), 5 % or less at k 16 and 32.
Held-out cells of the law: 3.6 % at worst, 1.2 % in the median. The interaction gamma is not identified on this
grid, and the second term is mostly what longer training would remove: 100,000 tokens are a demonstration.
"""

from ml_collections import ConfigDict

from dictlearn import recommended

D_IN = 576


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` shrinks it to about a minute."""
    if arg not in ("", "smoke"):
        raise ValueError(f"quickstart takes no {arg!r}; there is smoke.")
    smoke = arg == "smoke"
    config = ConfigDict()
    config.seed = 0
    config.steps = 40 if smoke else 200
    config.batch_size = 256 if smoke else 512
    config.log_every = 10
    config.checkpoint_every = 20 if smoke else 100

    config.model = {"name": "smollm2"}
    config.harvest = {
        "taps": ("resid.9",),
        "text": "wiki",
        "n_tokens": 4_000 if smoke else 105_000,
        "sequence_length": 64 if smoke else 128,
        "shard_rows": 2048 if smoke else 32_768,
    }
    widths, ks, seeds = (384, 768, 1536, 3072), (8, 16, 32), (0, 1)
    if smoke:
        widths, ks, seeds = (96, 192, 384), (4, 8, 16), (0,)
    tokens, batch = config.steps * config.batch_size, config.batch_size
    found = recommended(
        "topk", d_in=D_IN, n_latents=min(widths), l0=min(ks), tokens=tokens, batch_size=batch
    )
    config.update(found)
    config.sweep = {"n_latents": widths, "k": ks, "seed": seeds}
    path = f"runs/quickstart{'-smoke' if smoke else ''}/activations"
    config.stream = {"name": "store", "path": path, **config.stream}

    config.evaluate = {"n_tokens": 8192, "n_sequences": 8}
    if smoke:
        config.evaluate = {"n_tokens": 1024, "n_sequences": 1}
    return config
