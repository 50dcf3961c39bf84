"""Transcoders for several MLPs of SmolLM2 from one pass of it; graphs of ten prompts, and what they predict.

    dictlearn train --config=experiments/smollm2_circuits.py        (or `smoke`, `whole`, `pod`, here and below)
    for k in transcoders skip clt; do dictlearn train --workdir=runs/smollm2_whole/$k \
        --config=experiments/smollm2_circuits.py:whole,$k; done

SmolLM2-135M-Instruct (4-bit), Wikipedia leads. The first four MLPs (`whole`: all thirty); in a graph the
outputs of the other MLPs are errors. Five interventions on each prompt (`graph_validity`).

Claim (Ameisen et al. 2025, millions of latents): with everything held, edges predict what an intervention does;
in the model as it is, effects agree with the paths of the graph.

Expected (4 x 512 latents, 64 active a token, 20,480 tokens; jax 0.10.2, 2 minutes of the processor): explained
variance 0.281, CE score 0.60 on 2,048 and 1,024 held-out tokens; 276 to 402 latents in a graph.

    everything held       largest difference 7e-12 of the largest change
    the model as it is    correlation 0.09 +- 0.16 with the edges, 0.11 +- 0.15 with paths through latents

`whole` (one seed, 15 to 30 minutes of the processor): 2112 to 2417 latents, 4e-11, 0.28 +- 0.09, 0.33 +- 0.09;
replacement 0.28 to 0.53, completeness 0.78 to 0.87. All 30 MLPs replaced at once (`analyse replacement`, 4,096
tokens; intervals over eight passes of the model) have an explained variance, an L0, a CE score and more nats:
    transcoders   0.61  475  0.857 +- 0.031  4.71 +- 0.43        skip  0.73  471  0.928 +- 0.018  2.37 +- 0.28
    cross-layer   0.66  485  0.878 +- 0.027  4.03 +- 0.35
"""

from ml_collections import ConfigDict

KINDS = ("transcoders", "skip", "clt")
SIZES = {
    "": {"layers": 4, "n": 512, "k": 16, "steps": 80, "batch": 256},
    "whole": {"layers": 30, "n": 512, "k": 16, "steps": 200, "batch": 512},
    "smoke": {"layers": 2, "n": 64, "k": 8, "steps": 10, "batch": 128},
    "pod": {"layers": 30, "n": 2**15, "k": 32, "steps": 60_000, "batch": 4096},
}
PROMPTS = (
    "The capital of France is",
    "The capital of Japan is",
    "The opposite of hot is",
    "The opposite of black is",
    "The Eiffel Tower is",
    "Water freezes at zero degrees",
    "The sun rises in the",
    "Two plus two is equal",
    "The keys to the cabinet",
    "Once upon a time there",
)


def get_config(arg: str = "") -> ConfigDict:
    """`transcoders` (the default), `skip` or `clt`, `smoke` or `pod`, `layers=L` for the first L blocks;
    separated by commas."""
    words = [word for word in arg.split(",") if word]
    layers = [word.removeprefix("layers=") for word in words if word.startswith("layers=")]
    sizes, kinds = ([w for w in words if w in known] for known in (SIZES, KINDS))
    few = max(map(len, (layers, sizes, kinds))) <= 1
    if not few or len(words) > len(layers + sizes + kinds):
        known = f"{', '.join(KINDS)}, smoke, pod, layers=L"
        raise ValueError(f"smollm2_circuits takes no {arg!r}; there are {known}.")
    name, kind = (sizes or [""])[0], (kinds or ["transcoders"])[0]
    size, small = SIZES[name], name == "smoke"
    n_layers = int((layers or [size["layers"]])[0])
    taps = [[f"{place}.{layer}" for layer in range(n_layers)] for place in ("mlp_in", "mlp_out")]

    config = ConfigDict()
    config.seed = 0
    config.steps = size["steps"]
    config.batch_size = size["batch"]
    config.log_every = 10
    config.model = {"name": "smollm2"}
    config.harvest = {
        "taps": tuple(taps[0] + taps[1]),
        "text": "wiki",
        "n_tokens": None if name == "pod" else size["steps"] * size["batch"],
        "sequence_length": 64 if small else 128,
    }
    config.stream = {
        "name": "from_lm",
        "tap": tuple(taps[0]),
        "target": tuple(taps[1]),
        "normalise": "unit_mean_sq",
        "pool_rows": 2048 if name != "pod" else 32_768,
    }
    config.dictionary = {
        "name": "clt" if kind == "clt" else "transcoders",
        "activation": "batch_topk",
        "sources": n_layers,
        "n_latents": n_layers * size["n"],
        "k": n_layers * size["k"],
        "density_start": 4 * size["k"] / size["n"],
        "threshold_decay": 0.9 if name != "pod" else 0.999,
        "skip": kind == "skip",
    }
    config.objective = {"name": "fvu"}
    rule = {"name": "adam", "unit_norm": False, "warmup_steps": 10, "decay_fraction": 0.3}
    config.rule = rule | {"lr": 2e-3 if name != "pod" else 2e-4}
    config.learner = {"b_dec_start": "mean"}
    config.evaluate = {"n_tokens": 512 if small else 2048, "n_sequences": 8}
    if kind == "transcoders":
        config.analyses = {"graph_validity": {"prompts": PROMPTS, "n_changes": 5}}
    return config
