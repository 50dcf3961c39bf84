"""Layers of two models matched by the keys of their ITDAs, against CKA, SVCCA and relative representations.

    for w in float32 bfloat16 levels15 levels7; do
        dictlearn harvest --config=experiments/itda_layers.py:smollm2,$w,resid.2
        for l in 2 5 8 11 14 17 20 23 26 29; do dictlearn train --workdir=runs/itda_layers/smollm2/$w/resid.$l \
            --config=experiments/itda_layers.py:smollm2,$w,resid.$l; done
        dictlearn analyse similarity runs/itda_layers/smollm2/float32 runs/itda_layers/smollm2/$w \
            --workdir=runs/itda_layers/smollm2/$w-float32
    done

SmolLM2-135M-Instruct against itself with rounded weights: bfloat16, and 15 or 7 values a row
(`config.model.levels`). The same for the sentence encoder all-MiniLM-L6-v2 (`minilm`, resid.0 to resid.5).
20,000 tokens of Wikipedia leads, an ITDA of 512 atoms, k 8, for each tap. The two models cut text into other
tokens, so their keys name different things, and `similarity` refuses the pair.

Claim (Leask et al. 2025, section 5.1): the Jaccard index of keys matches layers of two models as well as
relative representations do, and better than CKA or SVCCA. There the models are GPT-2s from different
initialisations (0.88, 0.87, 0.69, 0.50), which is harder: no such pair comes in a package.

Expected (share of layers matched, of 20 in SmolLM2 and of 12 in MiniLM, half each way; jax 0.10.2, 2 CPU cores,
three quarters of an hour when busy):

                          ITDA   relative   SVCCA   CKA     Jaccard of the unions
    smollm2   bfloat16    1.00   1.00       1.00    1.00    0.834
              levels15    0.90   0.70       0.80    0.40    0.369
              levels7     0.15   0.15       0.15    0.10    0.169
    minilm    bfloat16    1.00   1.00       1.00    1.00    0.660
              levels15    1.00   0.83       1.00    1.00    0.399
              levels7     0.42   0.50       0.50    0.42    0.295

`bfloat16` is easy for all (Jaccard of the same layer 0.78 to 0.95, the next best at most 0.51). `levels15`
shows the claim, but one layer is a step of 0.05 among twenty and 0.08 among twelve. `levels7` breaks SmolLM2,
so that nothing is left to match, and is a poor MiniLM. Many BLAS threads on a busy machine wait for each other
in SVCCA: OPENBLAS_NUM_THREADS=1.
"""

from ml_collections import ConfigDict

WEIGHTS = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "levels15": {"levels": 15},
    "levels7": {"levels": 7},
}
TAPS = {
    "smollm2": tuple(f"resid.{layer}" for layer in range(2, 30, 3)),
    "minilm": tuple(f"resid.{layer}" for layer in range(6)),
}


def get_config(arg: str = "") -> ConfigDict:
    """MODEL, WEIGHTS and TAP, of smollm2 as it is if they are not given; `smoke` takes three taps and 2,000
    tokens. Separated by commas."""
    words = [word for word in arg.split(",") if word]
    smoke = "smoke" in words
    words = [word for word in words if word != "smoke"] or ["smollm2", "float32", "resid.2"]
    model, weights, tap = (*words, "", "", "")[:3]
    if len(words) > 3 or weights not in WEIGHTS or tap not in TAPS.get(model, ()):
        known = f"{TAPS}, {[*WEIGHTS]}"
        raise ValueError(f"itda_layers takes MODEL,WEIGHTS,TAP[,smoke], not {arg!r}: {known}.")
    config = ConfigDict()
    config.seed = 0
    config.steps = 7 if smoke else 78
    config.batch_size = 256
    config.log_every = 10
    config.checkpoint_every = 100

    config.model = {"name": model, **WEIGHTS[weights]}
    config.harvest = {
        "taps": TAPS[model][:3] if smoke else TAPS[model],
        "text": "wiki",
        "n_tokens": 2_000 if smoke else 20_000,
        "shard_rows": 32_768,
    }
    path = f"runs/itda_layers/{model}/{weights}/activations"
    config.stream = {"name": "store", "path": path, "tap": tap}
    config.dictionary = {"name": "itda", "n_latents": 64 if smoke else 512, "k": 8}
    config.learner = {"name": "itda", "size": 64 if smoke else 512}
    config.evaluate = {"n_tokens": 1024, "n_sequences": 0}
    return config
