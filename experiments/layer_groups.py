"""One dictionary for a group of layers beside one for each layer: what it saves and what it costs.

    python experiments/layer_groups.py [runs/layer_groups [small|smoke|pod]]

SmolLM2-135M-Instruct (4-bit), the residual stream after some of its blocks, Wikipedia leads. Layers are
clustered by angular distance into a third of their number (layer_groups.py). A group's dictionary reads
each token at one of its layers (stream one_of_taps), for as many steps as the dictionary of one layer, so that
all groups together cost a third of all layers. Every dictionary is measured on every layer of its own, under
that layer's scale. `get_config` is the config of a dictionary of all layers; `main` puts other streams in its
place.

Claim (Ghilardi et al. 2024/25, arXiv:2410.21508): a third to a sixth of the training loses little quality.
Theirs is Pythia to 1B with a billion tokens; `pod` is nearer to that: all blocks but the last, 16 D, k 128.

Expected (`small`: 768 latents, k 16, 150 steps of 512 tokens; explained variance and CE score on 2,048 and
1,024 held-out tokens; one seed; jax 0.10.2, 2 CPU cores, a quarter of an hour when busy):

                 alone           group
    resid.2      0.867  0.852    0.837  0.825
    resid.6      0.775  0.847    0.744  0.836
    resid.10     0.560  0.856    0.523  0.849
    resid.14     0.544  0.838    0.497  0.818
    resid.18     0.537  0.749    0.466  0.740
    resid.22     0.552  0.801    (a group of its own)

The groups are the first five layers (AMAD 0.117) and the last: 153,600 tokens of training instead of 460,800
cost 0.03 to 0.07 of explained variance and 0.01 to 0.03 of CE score. So few tokens are far from convergence.
"""

import sys
import time
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dictlearn import lm as language
from dictlearn import streams
from dictlearn.analyses.layer_groups import amad, angular_distances, cluster
from dictlearn.evaluate import evaluate
from dictlearn.harvest import harvest
from dictlearn.runs.workdir import write_json
from dictlearn.train import train

SIZES = {
    "smoke": {"layers": (2, 5, 8), "n_tokens": 2000, "n_latents": 96, "k": 8, "steps": 20},
    "small": {
        **{"layers": (2, 6, 10, 14, 18, 22), "n_tokens": 20_000},
        **{"n_latents": 768, "k": 16, "steps": 150},
    },
    "pod": {
        **{"layers": tuple(range(29)), "n_tokens": 500_000_000},
        **{"n_latents": 9216, "k": 128, "steps": 120_000},
    },
}

SHOWN = ("explained_variance", "ce_score", "l0", "dead_fraction")
BATCHES = 8
"""Batches of 256 tokens from which the distances are taken."""


def get_config(size: str = "small", folder: str = "runs/layer_groups") -> ConfigDict:
    """The dictionary of all layers. Raises ValueError for a size that there is not."""
    if size not in SIZES:
        raise ValueError(f"layer_groups has no size {size!r}; there are {', '.join(SIZES)}.")
    sizes, pod = SIZES[size], size == "pod"
    taps = tuple(f"resid.{layer}" for layer in sizes["layers"])
    config = ConfigDict()
    config.seed = 0
    config.steps = sizes["steps"]
    config.batch_size = 4096 if pod else 128 if size == "smoke" else 512
    config.model = {"name": "smollm2"}
    config.harvest = {
        "taps": taps,
        "text": "wiki",
        "n_tokens": sizes["n_tokens"],
        "sequence_length": 64 if size == "smoke" else 128,
    }
    config.stream = {
        "name": "one_of_taps",
        "path": f"{folder}/activations",
        "taps": taps,
        "normalise": "unit_mean_sq",
        "block_rows": 16,
    }
    config.dictionary = {"name": "topk", "n_latents": sizes["n_latents"], "k": sizes["k"]}
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 2e-4 if pod else 4e-3, "warmup_steps": 10}
    config.learner = {"b_dec_start": "zeros"}
    config.evaluate = {"n_tokens": 65_536 if pod else 2048, "n_sequences": 64 if pod else 8}
    return config


def main(folder: str = "runs/layer_groups", size: str = "small") -> None:
    config = get_config(size, folder).to_dict()
    if not Path(config["stream"]["path"], "manifest.json").exists():
        lm = language.load(**config["model"])
        harvest(lm, config["stream"]["path"], seed=config["seed"], **config["harvest"])
    found = compare(config, Path(folder))
    write_json(Path(folder) / "layer_groups.json", found)
    print(f"groups {found['groups']}  AMAD {found['amad']:.3f}")
    print(
        f"tokens  one a layer {found['tokens']['layers']:,}  groups {found['tokens']['groups']:,}"
    )
    for tap, row in found["layers"].items():
        shown = (
            f"{kind} {r['explained_variance']:.3f} {r['ce_score']:.3f}" for kind, r in row.items()
        )
        print(f"{tap:9} {'   '.join(shown)}", flush=True)


def compare(config: dict, folder: Path) -> dict:
    """{"groups", "distances", "amad", "tokens", "seconds", "layers": {tap: {"alone", "group": metrics}}} of
    the config's taps, all of whose rows are in its store."""
    taps, path = list(config["stream"]["taps"]), config["stream"]["path"]
    beside = streams.make("store", path=path, tap=taps, batch_size=256, block_rows=1, seed=0)
    distance_LL = angular_distances((beside.batch(t).x_BD for t in range(BATCHES)), len(taps))
    groups = cluster(distance_LL, -(-len(taps) // 3))
    layers, seconds = {tap: {} for tap in taps}, {"alone": 0.0, "group": 0.0}
    for kind, chosen in (("alone", [[n] for n in range(len(taps))]), ("group", groups)):
        for members in chosen:
            own = [taps[n] for n in members]
            each = {**config, "stream": {**config["stream"], "taps": own}}
            workdir = folder / "-".join(own)
            started = time.perf_counter()
            train(each, workdir)
            seconds[kind] += time.perf_counter() - started
            (record,) = evaluate(each, workdir).values()
            for tap in own:
                layers[tap][kind] = {name: record["sides"][tap][name] for name in SHOWN}
    tokens = config["steps"] * config["batch_size"]
    return {
        "groups": [[taps[n] for n in group] for group in groups],
        "distances": np.round(distance_LL, 6).tolist(),
        "amad": amad(distance_LL, groups),
        "tokens": {"layers": tokens * len(taps), "groups": tokens * len(groups)},
        "seconds": seconds,
        "layers": layers,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
