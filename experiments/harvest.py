"""The activations of any language model on any text, to disk, once.

    dictlearn harvest --config=experiments/harvest.py --config.model=PATH --config.taps='resid.{4,8,12}' \
        --config.text=PATH --workdir=DIR

`model` is a packaged model's name or a path (a GGUF file, a Hugging Face folder). `taps` is a pattern, or
`--config.harvest.taps="('resid.4', 'mlp_out.8')"`. `text` is "wiki", or a file, folder or glob that
`lm.documents` reads. The store is DIR/activations, written shard by shard: a harvest that was stopped continues
when it is run again. All taps come from one pass. Several processes (`jax.distributed`) share the shards.

Then a dictionary on one of the taps; `--config.stream.name=from_lm` trains without the store:

    dictlearn train --config=experiments/harvest.py --config.model=PATH --config.taps='resid.{4,8,12}' \
        --config.text=PATH --workdir=DIR --config.stream.tap=resid.8

Expected (`:smoke` with the packaged smollm2 and three taps: 8,000 tokens of Wikipedia leads; 2 busy CPU cores,
jax 0.10.2), two shards and their manifest, 29 MB:

    harvest: 100 %, 2,937 tokens/s, 0 s left
    activations: DIR/activations
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` shrinks it to a minute."""
    if arg not in ("", "smoke"):
        raise ValueError(f"harvest takes no {arg!r}; there is smoke.")
    smoke = arg == "smoke"
    config = ConfigDict()
    config.seed = 0
    config.steps = 40 if smoke else 10_000
    config.batch_size = 256 if smoke else 4096
    config.log_every = 10 if smoke else 100
    config.checkpoint_every = 20 if smoke else 1000

    config.model = {"name": "smollm2"}
    small = {"n_tokens": 8_000, "shard_rows": 4096} if smoke else {}
    config.harvest = {"taps": "resid.9", "text": "wiki", **small}
    config.stream = {"name": "store", "normalise": "unit_mean_sq"}

    config.dictionary = {"name": "topk", "aux_k": 32}
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 1e-3, "warmup_steps": 10 if smoke else 1000}
    config.learner = {"dead_after": 10_000 if smoke else 1_000_000}
    config.sweep = {"n_latents": (128,) if smoke else (4096,), "k": (8,) if smoke else (32,)}

    config.evaluate = {"n_tokens": 1024 if smoke else 65_536, "n_sequences": 8 if smoke else 32}
    return config
