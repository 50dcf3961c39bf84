"""Transcoders and skip transcoders of one MLP, and an SAE on its output, at the same L0.

    dictlearn harvest --config=experiments/transcoder_vs_sae.py            (or `smoke`, `pod`, here and below)
    for k in sae transcoder; do dictlearn train --config=experiments/transcoder_vs_sae.py:$k \
        --workdir=runs/transcoder_vs_sae/$k; done
    dictlearn analyse frontier runs/transcoder_vs_sae/sae runs/transcoder_vs_sae/transcoder
    dictlearn analyse replacement DIR DIR ... --replacement.member=skip

SmolLM2-135M-Instruct (4-bit), MLP of block 5. The SAE reads and writes `mlp_out.5`, the transcoders read
`mlp_in.5`: two runs on one store. `layer=L` takes another block, and `replacement` puts the `skip` of a run for
each block into the model, all at once.

Claim (Dunefsky et al. 2024, Paulo et al. 2025): a transcoder preserves the model's loss about as well as an
SAE, and a skip transcoder better than both.

Expected (25,600 tokens of Wikipedia leads four times over, 768 latents; 4,096 held-out tokens, 1,024 for CE;
jax 0.10.2, CPU). The loss is 2.98 nats, 3.14 without the MLP:

    kind          k     L0     explained   CE score   KL      dead
    sae            8     8.0   0.328       0.300      0.160   0.009
                  16    16.0   0.374       0.318      0.140   0.000
                  32    32.0   0.446       0.507      0.124   0.000
    transcoder     8     7.9   0.268       0.322      0.190   0.040
                  16    15.8   0.281       0.274      0.182   0.003
                  32    31.6   0.290       0.389      0.180   0.000
    skip           8     7.1   0.390       0.464      0.178   0.036
                  16    13.0   0.394       0.484      0.173   0.010
                  32    22.4   0.391       0.469      0.184   0.000

At L0 8 to 16 the skip transcoder explains the most and has the best CE score, 0.15 above both. The plain one
explains less than the SAE at every k. More latents do not help either on held-out text, and the SAE's KL is the
lowest at all k. Four passes over so few tokens are memorised (0.58 of the skip's last batch is explained). One
MLP costs 0.15 nats, so that the CE score moves by 0.1 where the loss does by 0.015. From tied random atoms, the
learner's default, 55 to 60 % of the plain transcoder's latents died.
"""

from ml_collections import ConfigDict

KINDS = ("sae", "transcoder")
SIZES = {
    "": {"n": 768, "k": (8, 16, 32), "steps": 200, "batch": 512, "n_tokens": 25_600},
    "smoke": {"n": 96, "k": (8,), "steps": 10, "batch": 128, "n_tokens": 1_000},
    "pod": {"n": 2**15, "k": (32, 64, 128), "steps": 30_000, "batch": 4096, "n_tokens": None},
}


def get_config(arg: str = "") -> ConfigDict:
    """`sae` or `transcoder` (the default), `smoke` or `pod`, `layer=L`; separated by commas."""
    words = [word for word in arg.split(",") if word]
    layers = [word.removeprefix("layer=") for word in words if word.startswith("layer=")]
    sizes, kinds = ([w for w in words if w in known] for known in (SIZES, KINDS))
    few = max(map(len, (layers, sizes, kinds))) <= 1
    if not few or len(words) > len(layers + sizes + kinds):
        known = f"{', '.join(KINDS)}, smoke, pod, layer=L"
        raise ValueError(f"transcoder_vs_sae takes no {arg!r}; there are {known}.")
    name, kind, layer = (sizes or [""])[0], (kinds or ["transcoder"])[0], (layers or ["5"])[0]
    size, small = SIZES[name], name == "smoke"
    read, write = f"mlp_in.{layer}", f"mlp_out.{layer}"

    config = ConfigDict()
    config.seed = 0
    config.steps = size["steps"]
    config.batch_size = size["batch"]
    config.log_every = 10
    config.model = {"name": "smollm2"}
    config.harvest = {
        "taps": (read, write),
        "n_tokens": size["n_tokens"],
        "sequence_length": 64 if small else 128,
        "shard_rows": 16_384,
        "held_out": 0.05,
    }
    config.stream = {
        "name": "store",
        "path": f"runs/transcoder_vs_sae/activations_{layer}",
        "tap": write if kind == "sae" else read,
        "block_rows": 16,
        "normalise": "unit_mean_sq",
    }
    config.dictionary = {"name": "topk", "n_latents": size["n"], "aux_k": 32}
    config.objective = {"name": "fvu"}
    rule = {"name": "adam", "warmup_steps": 10, "decay_fraction": 0.3}
    config.learner = {"dead_after": 60_000, "b_dec_start": "mean"}
    sweep = {"sweep": {"k": size["k"]}}
    if kind == "sae":
        config.members = {"sae": sweep | {"rule": rule | {"lr": 4e-3}}}
    else:
        config.stream["target"] = write
        # Atoms of zero have no direction to hold, and without a centred start half of the latents never fire.
        free = rule | {"lr": 4e-3, "unit_norm": False}
        start = {"atoms_start": "zeros", "b_enc_start": "centred"}
        config.members = {
            "transcoder": sweep | {"rule": free, "learner": start},
            "skip": sweep | {"rule": free, "dictionary": {"skip": True}, "learner": start},
        }
    config.evaluate = {"n_tokens": 512 if small else 4096, "n_sequences": 8}
    return config
