"""SAE-Track: dictionaries over the checkpoints of a model in training, each starting from the last.

    python experiments/sae_track.py                                         (the language model)
    for s in 0 10 30 100 200 400; do
        dictlearn train --config=experiments/sae_track.py:$s --workdir=runs/sae_track/step_$s; done
    dictlearn analyse tracking runs/sae_track/step_{0,10,30,100,200,400} --workdir=runs/sae_track

A llama of four layers (width 64, 1,024 byte-pair tokens) is trained on Wikipedia leads and saved at steps 0 to
400. Each dictionary of its residual stream but the first starts from the one before (`config.start`), with a
fresh optimiser and a fifth of the steps.

Claim (Xu et al. 2024, on Pythia-410M): features form early and keep turning after their meaning has settled.

Expected (256 latents, k 8, 300 steps of 256 tokens, then 60; medians over the latents that fire on 25
or more of 2,048 held-out tokens; one seed; jax 0.10.2, 2 CPU cores, eight minutes when busy):
    checkpoint  loss    explained  dead    drift    formation: activations, codes
    step_0      7.43    0.571      0.00    0.778        0.102    0.024
    step_10     7.12    0.584      0.00    0.797        0.105    0.026
    step_30     6.04    0.587      0.42    0.809        0.027    0.051
    step_100    5.41    0.830      0.03    0.872        0.330    0.143
    step_200    4.66    0.851      0.01    0.962        0.400    0.268
    step_400    4.30    0.870      0.01    1.000        0.395    0.287

The tokens of a latent are as similar at step 200 as at the end. At step 100 they are four fifths as similar,
while its direction still has 30 degrees to turn. In this model atoms are near their place from step 0 on.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from dictlearn import lm as language
from dictlearn.lm import decoder, tokenizer
from dictlearn.lm.spec import Spec, random_params

SIZES: dict[str, dict[str, Any]] = {
    "": {"home": "runs/sae_track", "saved": (0, 10, 30, 100, 200, 400), "steps": 300, "n": 60_000}
    | {"layers": 4, "width": 64, "vocab": 1024, "documents": 10_033, "batch": 32, "length": 64}
    | {"dictionary": {"n_latents": 256, "k": 8}},
    "smoke": {"home": "runs/sae_track-smoke", "saved": (0, 10, 20), "steps": 30, "n": 2000}
    | {"layers": 2, "width": 32, "vocab": 320, "documents": 200, "batch": 8, "length": 32}
    | {"dictionary": {"n_latents": 64, "k": 4}},
}


def get_config(arg: str = "") -> ConfigDict:
    """The dictionary of the checkpoint at a step, 0 by default; `smoke` shrinks it. Separated by a comma."""
    words = arg.split(",")
    size, chosen = SIZES["smoke" if "smoke" in words else ""], [w for w in words if w != "smoke"]
    step, steps = "".join(chosen) or "0", [*map(str, size["saved"])]
    if step not in steps:
        raise ValueError(f"sae_track takes no {arg!r}; there are smoke, {', '.join(steps)}.")
    config = ConfigDict({"seed": 0, "batch_size": 256})
    config.steps = size["steps"] // (1 if step == "0" else 5)
    config.model = {"name": "llama", "path": f"{size['home']}/lm/step_{step}"}
    tap = f"resid.{(size['layers'] - 1) // 2}"
    config.harvest = {"taps": tap, "n_tokens": size["n"], "sequence_length": size["length"]}
    config.stream = {"name": "from_lm", "normalise": "unit_mean_sq", "pool_rows": 16_384}
    config.dictionary = {"name": "topk", "aux_k": 16} | size["dictionary"]
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 2e-3, "warmup_steps": 3}
    config.learner = {"dead_after": 20_000}
    if step != "0":
        config.start = {"workdir": f"{size['home']}/step_{steps[steps.index(step) - 1]}"}
    config.evaluate = {"n_tokens": 2048, "n_sequences": 8}
    return config


def train_lm(arg: str = "") -> None:
    """Trains a small llama on Wikipedia leads with Adam and saves it at the steps wanted."""
    size, random = SIZES[arg], np.random.default_rng(0)
    width, last = size["width"], size["saved"][-1]
    texts, _ = language.documents("wiki", n_documents=size["documents"])
    words = tokenizer.trained(texts, size["vocab"])
    packed_ST = language.pack(texts, words, size["length"], 0).tokens_ST
    spec = Spec(size["layers"], width, 4, 4, width // 4, 3 * width, words.get_vocab_size())
    params: Any = random_params(spec, jax.random.key(0))
    rule = optax.adam(optax.warmup_cosine_decay_schedule(0.0, 3e-3, max(1, last // 20), last + 1))

    def loss(params, tokens_BT):
        logp_BTV = jax.nn.log_softmax(decoder.forward(spec, params, tokens_BT)[0][:, :-1])
        return -jnp.take_along_axis(logp_BTV, tokens_BT[:, 1:, None], axis=-1).mean()

    gradient, update, state = jax.jit(jax.grad(loss)), jax.jit(rule.update), rule.init(params)
    for t in range(last + 1):
        if t in size["saved"]:
            lm = language.LM("llama", spec, params, words, 0, {}, decoder.forward)
            language.save(lm, f"{size['home']}/lm/step_{t}")
        tokens_BT = packed_ST[random.integers(len(packed_ST), size=size["batch"])]
        updates, state = update(gradient(params, tokens_BT), state)
        params = optax.apply_updates(params, updates)


if __name__ == "__main__":
    train_lm(*sys.argv[1:])
