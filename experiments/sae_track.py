"""SAE-Track: dictionaries over the checkpoints of a model in training, each starting from the last.

    python experiments/sae_track.py [runs/sae_track [small|smoke]]

A llama of four layers (width 64, 1,024 byte-pair tokens) is trained on Wikipedia leads, and saved at steps 0
to 400 as Hugging Face saves one, so that `lm.load` reads it. The first dictionary, of its residual stream, is
trained whole, and each later one starts from the weights of the one before (`config.start`), with a fresh
optimiser and a fifth of the steps. Should a gap between checkpoints have killed more than half of the latents,
that dictionary starts anew.

Claim (Xu et al. 2024, arXiv:2412.17626): features form early and go on turning after their meaning has settled.
There the model is Pythia-410M with 154 checkpoints; `track` takes the configs of any series of folders.

Expected (`small`: 256 latents, k 8, 300 steps of 256 tokens, then 60; medians over the latents that fire on 25
or more of 2,048 held-out tokens; one seed; jax 0.10.2, 2 CPU cores, eight minutes when busy):

    checkpoint  loss    explained  dead    drift    formation: activations, codes
    step_0      7.43    0.571      0.00    0.778        0.102    0.024
    step_10     7.12    0.584      0.00    0.797        0.105    0.026
    step_30     6.04    0.587      0.42    0.809        0.027    0.051
    step_100    5.41    0.830      0.03    0.872        0.330    0.143
    step_200    4.66    0.851      0.01    0.962        0.400    0.268
    step_400    4.30    0.870      0.01    1.000        0.395    0.287

The tokens of a latent are as much alike at step 200 as at the end, and four fifths of that at step 100, where
its direction still has 30 degrees to turn. Every start was warm: after step 30 the dead came back. That atoms
are near their place from step 0 on is of this model, which is small and trained shortly.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from dictlearn import dense
from dictlearn import lm as language
from dictlearn.analyses import tracking
from dictlearn.experiment.stream import open_stream
from dictlearn.lm import decoder, families, names
from dictlearn.lm.spec import Spec, random_params
from dictlearn.runs.trained import restore
from dictlearn.runs.workdir import write_json
from dictlearn.train import train
from dictlearn.types import Batch

SIZES: dict[str, dict[str, Any]] = {
    "smoke": {
        **{"layers": 2, "width": 32, "vocab": 320, "documents": 200, "batch": 8, "length": 32},
        **{"saved": (0, 10, 20), "n_latents": 64, "k": 4, "steps": 30, "n_tokens": 2000},
    },
    "small": {
        **{"layers": 4, "width": 64, "vocab": 1024, "documents": 10_033, "batch": 32, "length": 64},
        **{"saved": (0, 10, 30, 100, 200, 400), "n_latents": 256, "k": 8, "steps": 300},
        **{"n_tokens": 60_000},
    },
}
SEPARATOR = "<|endoftext|>"
DEAD = 0.5
"""Share of dead latents above which a dictionary starts anew."""


def get_config(size: str = "small", model: str = "") -> ConfigDict:
    """The dictionary of the checkpoint in the folder `model`. Raises ValueError for an unknown size."""
    if size not in SIZES:
        raise ValueError(f"sae_track has no size {size!r}; there are {', '.join(SIZES)}.")
    sizes = SIZES[size]
    config = ConfigDict()
    config.seed = 0
    config.steps = sizes["steps"]
    config.batch_size = 256
    config.model = {"name": "llama", "path": model}
    config.harvest = {
        "taps": (f"resid.{(sizes['layers'] - 1) // 2}",),
        "text": "wiki",
        "n_tokens": sizes["n_tokens"],
        "sequence_length": sizes["length"],
    }
    config.stream = {"name": "from_lm", "normalise": "unit_mean_sq", "pool_rows": 16_384}
    config.dictionary = {
        "name": "topk",
        "n_latents": sizes["n_latents"],
        "k": sizes["k"],
        "aux_k": 16,
    }
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 2e-3, "warmup_steps": 3}
    config.learner = {"dead_after": 20_000}
    return config


def main(folder: str = "runs/sae_track", size: str = "small") -> None:
    checkpoints = train_lm(Path(folder) / "lm", SIZES[size])
    found = track([get_config(size, str(path)).to_dict() for path in checkpoints], Path(folder))
    write_json(Path(folder) / "sae_track.json", found)
    print("checkpoint  explained  dead   started  drift   formation: activations, codes")
    for row in found["checkpoints"]:
        print(
            f"{row['name']:10} {row['explained_variance']:9.3f} {row['dead_fraction']:6.3f}   "
            f"{row['started']:7}  {row['drift']:.3f}   {row['formation']:9.3f} {row['formation_codes']:9.3f}",
            flush=True,
        )


def track(configs: list[dict], folder: Path) -> dict:
    """A dictionary for each config, in order, each from the one before. Drift and formation are medians over
    the latents that are alive in the last; formation is measured on held-out tokens."""
    rows, atoms, activations, codes = [], [], [], []
    last = None
    for config in configs:
        name = Path(config["model"]["path"]).name
        x_BD, n_latents = held_out(config), config["dictionary"]["n_latents"]
        last, started = step(config, folder / f"sae_{name}", last, x_BD)
        (dictionary,) = restore(last)
        code_BF = np.asarray(dense(dictionary.encode(jnp.asarray(x_BD)), n_latents))
        atoms.append(np.asarray(dictionary.variables["params"]["W_dec_FD"]))
        activations.append(x_BD)
        codes.append(code_BF)
        y_BD = np.asarray(dictionary.reconstruct(jnp.asarray(x_BD)))
        share = ((x_BD - y_BD) ** 2).sum() / ((x_BD - x_BD.mean(0)) ** 2).sum()
        row = {"name": name, "started": started, "explained_variance": float(1 - share)}
        rows.append({**row, "dead_fraction": float((code_BF == 0).all(0).mean())})
    often_F = (codes[-1] > 0).sum(0) >= tracking.TOP
    top_FU = tracking.top_tokens(codes[-1])[often_F]
    turned_TF = tracking.drift(atoms)[:, often_F]
    for row, turned_F, x_BD, code_BF in zip(rows, turned_TF, activations, codes, strict=True):
        formed = lambda of, by, top_FU=top_FU: float(
            np.median(tracking.formation(of, top_FU, np.random.default_rng(0), by))
        )
        row |= {"drift": float(np.median(turned_F)), "formation": formed(x_BD, "cosine")}
        row |= {"formation_codes": formed(code_BF, "weighted_jaccard")}
    return {"latents": int(often_F.sum()), "checkpoints": rows}


def step(config: dict, path: Path, last: Path | None, x_BD: np.ndarray) -> tuple[Path, str]:
    """A run's path and how it started: "warm", from the dictionary of `last` for a fifth of the steps, or
    "cold", anew, where there is none or too many latents never fire on the rows x_BD then."""
    if last is not None:
        start = {"start": {"workdir": str(last)}}
        train({**config, **start, "steps": max(1, config["steps"] // 5)}, path)
        (dictionary,) = restore(path)
        codes = dictionary.encode(jnp.asarray(x_BD))
        fired_F = (dense(codes, config["dictionary"]["n_latents"]) > 0).any(0)
        if 1 - float(fired_F.mean()) <= DEAD:
            return path, "warm"
        path = path.with_name(path.name + "_cold")
    train(config, path)
    return path, "cold"


def held_out(config: dict) -> np.ndarray:
    """Activations of the same held-out tokens at any checkpoint, raw, [B, D]."""
    rest = open_stream(config).held_out
    assert rest is not None, "from_lm holds documents out"
    batches = [cast(Batch, rest[t]) for t in range(min(8, len(rest)))]
    return np.concatenate([batch.x_BD for batch in batches])


def train_lm(folder: Path, sizes: dict, seed: int = 0) -> list[Path]:
    """Trains a small llama on Wikipedia leads with Adam and saves it at the steps wanted; the folders."""
    paths = [folder / f"step_{step}" for step in sizes["saved"]]
    if all((path / "model.safetensors").exists() for path in paths):
        return paths
    texts, _ = language.documents("wiki", n_documents=sizes["documents"])
    tokenizer = train_tokenizer(texts, sizes["vocab"])
    separator = cast(int, tokenizer.token_to_id(SEPARATOR))
    packed = language.pack(texts, tokenizer, sizes["length"], separator)
    width, n_heads = sizes["width"], 4
    spec = Spec(
        n_layers=sizes["layers"],
        d_model=width,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=width // n_heads,
        d_mlp=3 * width,
        vocab=tokenizer.get_vocab_size(),
    )
    params = random_params(spec, jax.random.key(seed))
    last = sizes["saved"][-1]
    rule = optax.adam(optax.warmup_cosine_decay_schedule(0.0, 3e-3, max(1, last // 20), last + 1))
    update, state = jax.jit(_update(spec, rule)), rule.init(params)
    random = np.random.default_rng(seed)
    for t in range(last + 1):
        if t in sizes["saved"]:
            save_llama(folder / f"step_{t}", spec, params, tokenizer, separator)
        tokens_BT = packed.tokens_ST[random.integers(len(packed.tokens_ST), size=sizes["batch"])]
        params, state, loss = update(params, state, tokens_BT)
        if t in sizes["saved"]:
            print(f"language model, step {t}: loss {float(loss):.3f}", flush=True)
    return paths


def _update(spec: Spec, rule) -> Callable:
    def loss(params, tokens_BT):
        logits_BTV = decoder.forward(spec, params, tokens_BT)[0][:, :-1]
        logp_BTV = jax.nn.log_softmax(logits_BTV)
        return -jnp.take_along_axis(logp_BTV, tokens_BT[:, 1:, None], axis=-1).mean()

    def update(params, state, tokens_BT):
        value, gradient = jax.value_and_grad(loss)(params, tokens_BT)
        updates, state = rule.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    return update


def train_tokenizer(texts: list[str], vocab: int) -> Tokenizer:
    """Byte-pair tokens of these texts, the separator first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_llama(folder: Path, spec: Spec, params, tokenizer: Tokenizer, separator: int) -> None:
    """The model as a Hugging Face folder: config.json, tokenizer.json, model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    source = names.sources(families.tensor_names("llama"), spec, {"model.embed_tokens.weight"})
    tensors = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        where = source(path[-1].key)
        layer = path[0].key.rpartition("_")[2]
        value = np.asarray(leaf, np.float32)
        tensors[where.name.format(layer)] = np.ascontiguousarray(value.T if where.flip else value)
    config = {
        **{"model_type": "llama", "hidden_size": spec.d_model, "vocab_size": spec.vocab},
        **{"num_hidden_layers": spec.n_layers, "num_attention_heads": spec.n_heads},
        **{"num_key_value_heads": spec.n_kv_heads, "head_dim": spec.head_dim},
        **{"intermediate_size": spec.d_mlp, "rms_norm_eps": spec.norm_eps},
        **{"rope_theta": spec.rope_base, "tie_word_embeddings": spec.tied},
        **{"hidden_act": "silu", "eos_token_id": separator},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(tensors, folder / "model.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
