"""One dictionary for a group of layers, compared with one for each layer: savings and cost.

    dictlearn harvest --config=experiments/layer_groups.py                 (or `pod`, `smoke`, here and below)
    dictlearn analyse layer_groups --config=experiments/layer_groups.py --layer_groups.n_tokens=2048
    for l in 2 6 10 14 18 22; do
        dictlearn train --config=experiments/layer_groups.py:$l --workdir=runs/layer_groups/resid.$l; done
    dictlearn train --config=experiments/layer_groups.py:2,6,10,14,18 --workdir=runs/layer_groups/group
    dictlearn analyse sides runs/layer_groups/{resid.*,group} --workdir=runs/layer_groups    (and `cost`)

SmolLM2-135M-Instruct (4-bit), the residual stream after some of its blocks, Wikipedia leads. Layers are
clustered by angular distance into a third of their number. A group's dictionary reads each token at one of its
layers (stream one_of_taps), for as many steps as the dictionary of one layer. So all groups together cost a
third of all layers. Every dictionary is measured on every layer of its own, under that layer's scale.

Claim (Ghilardi et al. 2024/25, arXiv:2410.21508): a third to a sixth of the training loses little quality.
Theirs is Pythia to 1B with a billion tokens; `pod` is nearer to that: all blocks but the last, 16 D, k 128.

Expected: 768 latents, k 16, 150 steps of 512 tokens, one seed. Explained variance and CE score on 2,048 and
1,024 held-out tokens (jax 0.10.2, 2 CPU cores, a quarter of an hour when busy):

                 alone           group
    resid.2      0.867  0.852    0.837  0.825
    resid.6      0.775  0.847    0.744  0.836
    resid.10     0.560  0.856    0.523  0.849
    resid.14     0.544  0.838    0.497  0.818
    resid.18     0.537  0.749    0.466  0.740
    resid.22     0.552  0.801    (a group of its own)

The groups are the first five layers (AMAD 0.117) and the last. 153,600 tokens of training instead of 460,800
cost 0.03 to 0.07 of explained variance and 0.01 to 0.03 of CE score. So few tokens are far from convergence.
"""

from ml_collections import ConfigDict

SIZES = {
    "": {"layers": (2, 6, 10, 14, 18, 22), "n_tokens": 20_000, "n_latents": 768, "k": 16}
    | {"steps": 150, "batch": 512, "length": 128, "evaluate": (2048, 8)},
    "smoke": {"layers": (2, 5, 8), "n_tokens": 2000, "n_latents": 96, "k": 8}
    | {"steps": 20, "batch": 128, "length": 64, "evaluate": (2048, 8)},
    "pod": {"layers": tuple(range(29)), "n_tokens": 500_000_000, "n_latents": 9216, "k": 128}
    | {"steps": 120_000, "batch": 4096, "length": 128, "evaluate": (65_536, 64)},
}


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` or `pod`, and the layers that the dictionary reads, by default all; separated by commas."""
    words = [word for word in arg.split(",") if word]
    sizes = [word for word in words if word in SIZES]
    size = SIZES[(sizes or [""])[0]]
    known = {str(layer): f"resid.{layer}" for layer in size["layers"]}
    chosen = [word for word in words if word not in SIZES] or list(known)
    if len(sizes) > 1 or not set(chosen) <= set(known):
        raise ValueError(
            f"layer_groups takes no {arg!r}; there are smoke, pod, {', '.join(known)}."
        )
    config = ConfigDict()
    config.seed = 0
    config.steps = size["steps"]
    config.batch_size = size["batch"]
    config.model = {"name": "smollm2"}
    config.harvest = {
        "taps": tuple(known.values()),
        "text": "wiki",
        "n_tokens": size["n_tokens"],
        "sequence_length": size["length"],
    }
    config.stream = {
        "name": "one_of_taps",
        "path": "runs/layer_groups/activations",
        "taps": tuple(known[layer] for layer in chosen),
        "normalise": "unit_mean_sq",
        "block_rows": 16,
    }
    config.dictionary = {"name": "topk", "n_latents": size["n_latents"], "k": size["k"]}
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 4e-3 if sizes != ["pod"] else 2e-4, "warmup_steps": 10}
    config.learner = {"b_dec_start": "zeros"}
    config.evaluate = dict(zip(("n_tokens", "n_sequences"), size["evaluate"], strict=True))
    return config
