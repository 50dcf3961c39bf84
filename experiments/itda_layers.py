"""Layers of two models matched by the keys of their ITDAs, beside CKA, SVCCA and relative representations.

    python experiments/itda_layers.py [runs/itda_layers [smollm2|minilm]]      (quickly: DIR MODEL smoke)

SmolLM2-135M-Instruct, and the sentence encoder all-MiniLM-L6-v2, each against itself with its weights rounded,
to bfloat16 and to whole steps of each row's largest weight (`steps7`: 15 values, `steps3`: 7 values a row). Ten
taps of SmolLM2, resid.2 to resid.29, and the six blocks of MiniLM, 20,000 tokens of Wikipedia leads, an ITDA of
512 atoms, k 8, for each. `get_config("MODEL,WEIGHTS,TAP")` is the config of one of them; `dictlearn analyse
similarity DIR/smollm2/float32 DIR/smollm2/steps3` draws a pair again. The two models cut text into other
tokens, so their keys name different things, and `similarity` refuses the pair.

Claim (Leask et al. 2025, section 5.1): a layer is found again in the other model by the Jaccard index of keys
as well as by relative representations, and better than by CKA or SVCCA. There the models are GPT-2s from
different initialisations (0.88, 0.87, 0.69, 0.50), which is harder: no such pair comes in a package.

Expected (share of layers matched, of 20 in SmolLM2 and of 12 in MiniLM, half each way; jax 0.10.2, 2 CPU cores,
half an hour and a quarter when busy):

                          ITDA   relative   SVCCA   CKA     Jaccard of the unions
    smollm2   bfloat16    1.00   1.00       1.00    1.00    0.834
              steps7      0.90   0.70       0.80    0.40    0.369
              steps3      0.15   0.15       0.15    0.10    0.169
    minilm    bfloat16    1.00   1.00       1.00    1.00    0.660
              steps7      1.00   0.83       1.00    1.00    0.399
              steps3      0.42   0.50       0.50    0.42    0.295

`bfloat16` is easy for all (Jaccard of the same layer 0.78 to 0.95, of the next best at most 0.51); `steps7` is
the claim, though among twenty a step is 0.05, among twelve 0.08; `steps3` is a broken SmolLM2, where nothing
is left to match, and a poor MiniLM. Many BLAS threads on a busy machine wait for each other in
SVCCA: OPENBLAS_NUM_THREADS=1.
"""

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dictlearn import analyses
from dictlearn import lm as language
from dictlearn.harvest import harvest
from dictlearn.train import train

WEIGHTS = {"float32": None, "bfloat16": None, "steps7": 7, "steps3": 3}
"""Steps from 0 to a row's largest weight; None where a dtype says how weights are rounded."""
TAPS = {
    "smollm2": tuple(f"resid.{layer}" for layer in range(2, 30, 3)),
    "minilm": tuple(f"resid.{layer}" for layer in range(6)),
}


def get_config(
    arg: str = "smollm2,float32,resid.8", folder: str = "runs/itda_layers"
) -> ConfigDict:
    """`arg`: a model, what its weights are, a tap, and `smoke`, which takes three taps and 2,000 tokens."""
    words, smoke = arg.split(",")[:3], arg.split(",")[3:]
    model, weights, tap = words if len(words) == 3 else ("", "", "")
    known = model in TAPS and weights in WEIGHTS and tap in TAPS[model]
    if not known or smoke not in ([], ["smoke"]):
        raise ValueError(
            f"itda_layers takes MODEL,WEIGHTS,TAP[,smoke], not {arg!r}: {TAPS}, {[*WEIGHTS]}."
        )
    config = ConfigDict()
    config.seed = 0
    config.steps = 7 if smoke else 78
    config.batch_size = 256
    config.log_every = 10
    config.checkpoint_every = 100

    dtype = weights if WEIGHTS[weights] is None else "float32"
    config.model = {"name": model, "dtype": dtype}
    config.harvest = {
        "taps": TAPS[model][:3] if smoke else TAPS[model],
        "text": "wiki",
        "n_tokens": 2_000 if smoke else 20_000,
        "shard_rows": 32_768,
    }
    config.stream = {"name": "store", "path": f"{folder}/{model}/{weights}/activations", "tap": tap}
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


def main(folder: str = "runs/itda_layers", model: str = "", *smoke: str) -> None:
    for each in [model] if model else TAPS:
        pairs(Path(folder), each, *smoke)


def pairs(folder: Path, model: str, *smoke: str) -> None:
    """Every copy of a model with all its ITDAs, and each compared with the first."""
    for weights, steps in WEIGHTS.items():
        taps = TAPS[model]
        configs = [get_config(",".join((model, weights, tap, *smoke)), str(folder)) for tap in taps]
        first = configs[0].to_dict()
        lm = language.load(**first["model"])
        lm = lm if steps is None else rounded(lm, steps)
        harvest(lm, first["stream"]["path"], seed=0, **first["harvest"])
        for tap, config in zip(first["harvest"]["taps"], configs, strict=False):
            train(config.to_dict(), folder / model / weights / tap)
    for weights in [*WEIGHTS][1:]:
        result = analyses.run(
            "similarity", [folder / model / name for name in ("float32", weights)]
        )
        analyses.write("similarity", result, {}, folder / model / f"{weights}-float32")
        found = result.values
        scores = "  ".join(f"{name} {score:.3f}" for name, score in found["scores"].items())
        print(f"{model} {weights:9} {scores}  union {found['union_jaccard']:.3f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
