"""Layers of two models matched by the keys of their ITDAs, beside CKA, SVCCA and relative representations.

    python experiments/itda_layers.py [runs/itda_layers]           (smoke: itda_layers.py DIR smoke)

SmolLM2-135M-Instruct against itself with its weights rounded, to bfloat16 and to whole steps of each row's
largest weight (`steps7`: 15 values, `steps3`: 7 values a row). Ten taps, resid.2 to resid.29, 20,000 tokens
of Wikipedia leads, an ITDA of 512 atoms, k 8, for each. `get_config("MODEL,TAP")` is the config of one of
them; `dictlearn compare DIR/float32 DIR/steps3` draws a pair again.

Claim (Leask et al. 2025, section 5.1): a layer is found again in the other model by the Jaccard index of keys
as well as by relative representations, and better than by CKA or SVCCA. There the models are GPT-2s from
different initialisations (0.88, 0.87, 0.69, 0.50), which is harder: no such pair comes in a package.

Expected (share of layers matched, of 20: ten each way; jax 0.10.2, 2 CPU cores, half an hour when busy):

                 ITDA   relative   SVCCA   CKA     Jaccard of the unions
    bfloat16     1.00   1.00       1.00    1.00    0.834
    steps7       0.90   0.70       0.80    0.40    0.369
    steps3       0.15   0.15       0.15    0.10    0.169

`bfloat16` is easy for all (Jaccard of the same layer 0.78 to 0.95, of the next best at most 0.51); `steps7` is
the claim, though among twenty a step is 0.05; `steps3` is a broken model, where nothing is left to match.
Many BLAS threads on a busy machine wait for each other in SVCCA: OPENBLAS_NUM_THREADS=1.
"""

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dictlearn import lm as language
from dictlearn.report import heat
from dictlearn.similarity import similarity
from dictlearn.streams.harvest import harvest
from dictlearn.train import train
from dictlearn.workdir import write_json

MODELS = {"float32": None, "bfloat16": None, "steps7": 7, "steps3": 3}
"""Steps from 0 to a row's largest weight; None where a dtype says how weights are rounded."""
TAPS = tuple(f"resid.{layer}" for layer in range(2, 30, 3))


def get_config(arg: str = "float32,resid.8", folder: str = "runs/itda_layers") -> ConfigDict:
    """`arg`: a model, a tap of it, and `smoke`, which takes three taps and 2,000 tokens."""
    model, tap, *smoke = arg.split(",")
    if model not in MODELS or tap not in TAPS or smoke not in ([], ["smoke"]):
        raise ValueError(f"itda_layers takes MODEL,TAP[,smoke], not {arg!r}: {[*MODELS]}, {TAPS}.")
    config = ConfigDict()
    config.seed = 0
    config.steps = 7 if smoke else 78
    config.batch_size = 256
    config.log_every = 10
    config.checkpoint_every = 100

    dtype = model if MODELS[model] is None else "float32"
    config.model = {"name": "smollm2", "dtype": dtype}
    config.harvest = {
        "taps": TAPS[:3] if smoke else TAPS,
        "text": "wiki",
        "n_tokens": 2_000 if smoke else 20_000,
        "shard_rows": 32_768,
    }
    config.stream = {"name": "store", "path": f"{folder}/{model}/activations", "tap": tap}
    config.dictionary = {"name": "itda", "n_latents": 64 if smoke else 512, "k": 8}
    config.learner = {"name": "itda", "size": 64 if smoke else 512}
    return config


def rounded(lm: language.LM, steps: int) -> language.LM:
    """The model with every weight matrix in whole steps of its rows' largest weights."""

    def one(leaf):
        if leaf.ndim < 2:
            return leaf
        step = jnp.abs(leaf).max(-1, keepdims=True) / steps
        return jnp.round(leaf / step) * step

    source = {**lm.source, "rounded": f"{steps} steps"}
    return dataclasses.replace(lm, params=jax.tree.map(one, lm.params), source=source)


def main(folder: str = "runs/itda_layers", *smoke: str) -> None:
    for model, steps in MODELS.items():
        configs = [get_config(",".join((model, tap, *smoke)), folder) for tap in TAPS]
        first = configs[0].to_dict()
        lm = language.load(**first["model"])
        lm = lm if steps is None else rounded(lm, steps)
        harvest(lm, first["stream"]["path"], seed=0, **first["harvest"])
        for tap, config in zip(first["harvest"]["taps"], configs, strict=False):
            train(config.to_dict(), Path(folder, model, tap))
    for model in [*MODELS][1:]:
        found = similarity(Path(folder, "float32"), Path(folder, model))
        write_json(Path(folder, f"{model}.json"), found)
        heat.draw(found, Path(folder, f"{model}.png"))
        scores = "  ".join(f"{name} {score:.3f}" for name, score in found["scores"].items())
        print(f"{model:9} {scores}  union {found['union_jaccard']:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
