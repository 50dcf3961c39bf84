"""circuit-tracer on a transcoder set and on a cross-layer transcoder trained here: features, their values,
the errors of its replacement model and its attribution graph, beside ours. Run by benchmarks/tools.py."""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tools_common import MODEL, ran, table

from dictlearn import dense, interop, restore
from dictlearn import lm as language
from dictlearn.harvest import harvest
from dictlearn.lm import decoder
from dictlearn.runs.trained import Trained
from dictlearn.train import train

LAYERS, F, T = 3, 512, 12
READ, WRITTEN = ([f"{place}.{layer}" for layer in range(LAYERS)] for place in ("mlp_in", "mlp_out"))

SCRIPT = """
import glob
from circuit_tracer.attribution.attribute import attribute
from circuit_tracer.replacement_model.replacement_model_transformerlens import (
    TransformerLensReplacementModel as Replacement)
from circuit_tracer.transcoder.cross_layer_transcoder import load_clt
from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set
import yaml
config = yaml.safe_load(open(f"{home}/ours/config.yaml"))
hooks = {key: config[key] for key in ("feature_input_hook", "feature_output_hook", "scan")}
if config["model_kind"] == "transcoder_set":
    paths = dict(enumerate(sorted(glob.glob(f"{home}/ours/layer_*.safetensors"))))
    transcoders = load_transcoder_set(paths, **hooks, lazy_encoder=False, lazy_decoder=False)
else:
    transcoders = load_clt(f"{home}/ours", **hooks, dtype=torch.float32, lazy_decoder=False)
torch.set_grad_enabled(True)
model = filled(Replacement(configured(), tokenizer))
model._configure_replacement_model(transcoders)
s = torch.tensor(tokens[0])
with torch.no_grad():
    codes = model.get_activations(s)[1]
    context = model.setup_attribution(s)
numpy.save(f"{home}/codes.npy", codes.float().numpy())
numpy.save(f"{home}/errors.npy", context.error_vectors.float().numpy())
graph = attribute(s, model, max_n_logits=3, batch_size=64, max_feature_nodes=256)
found = {
    "features of the graph": len(graph.active_features), "edges": int((graph.adjacency_matrix != 0).sum()),
    "logits": len(graph.logit_probabilities)}
"""


def cut(lm: language.LM, n_layers: int = LAYERS) -> language.LM:
    """The model's first layers, under its last norm."""
    spec = dataclasses.replace(lm.spec, n_layers=n_layers)
    beyond = {f"block_{n}" for n in range(n_layers, lm.spec.n_layers)}
    params = {key: leaf for key, leaf in lm.params.items() if key not in beyond}
    forward = lambda *inputs, **options: decoder.forward(spec, *inputs, **options)
    return dataclasses.replace(lm, spec=spec, params=params, forward=forward)


def trained_here(home: Path, name: str, tap, target, dictionary: Mapping) -> Trained:
    config = {
        **{"seed": 0, "steps": 200, "batch_size": 256, "log_every": 100},
        "stream": {
            "name": "store",
            "path": str(home / "activations"),
            "tap": tap,
            "target": target,
        },
        "dictionary": dict(dictionary),
        "objective": {"name": "fvu"},
        "rule": {"name": "adam", "lr": 2e-3, "warmup_steps": 10},
    }
    # A scale for each of several sources cannot be folded into the weights.
    config["stream"]["normalise"] = "unit_mean_sq" if isinstance(tap, str) else "none"
    train(config, home / name)
    return restore(home / name)[0].folded()


def compare(given: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        lm = cut(language.load("smollm2"))
        language.save(lm, home / "model")
        harvest(lm, home / "activations", (*READ, *WRITTEN), n_tokens=8_000, sequence_length=64)
        one = {"name": "batch_topk", "n_latents": F, "k": 8}
        whole = {"name": "clt", "activation": "jumprelu", "sources": LAYERS, "sparsity": 0.1}
        whole |= {"penalty": "target_l0", "target_l0": 8.0 * LAYERS, "bandwidth": 0.05}
        whole |= {"threshold_start": 0.05}
        sets = {
            "circuit_tracer": lambda: [
                trained_here(home, f"layer{n}", READ[n], WRITTEN[n], one) for n in range(LAYERS)
            ],
            "circuit_tracer_clt": lambda: [
                trained_here(home, "clt", READ, WRITTEN, whole | {"n_latents": LAYERS * F})
            ],
        }
        rows_ST = language.sequences("wiki", lm.tokenizer, T - 1, lm.separator)[1].tokens_ST[:1]
        tokens_ST = np.concatenate([[[lm.separator]], rows_ST], axis=1).astype(np.int32)
        np.save(home / "tokens.npy", tokens_ST)
        taps = lm.forward(lm.params, tokens_ST)[1]
        x_LTD, y_LTD = (np.stack([taps[tap][0] for tap in names]) for names in (READ, WRITTEN))
        print("| tool | measure | there | here | difference |\n|---|---|---|---|---|")
        for format, make in sets.items():
            path, dictionaries = home / "ours", make()
            if format == "circuit_tracer":
                interop.save_all(dictionaries, path, format)
            else:
                interop.save(dictionaries[0], path, format)
            found = ran(given["circuit_tracer"], MODEL + SCRIPT, home, length=T)
            codes, errors = (np.load(home / f"{name}.npy") for name in ("codes", "errors"))
            found |= summed(codes, errors)
            table(format, found, summed(*said_here(dictionaries, x_LTD, y_LTD)))


def said_here(dictionaries, x_LTD, y_LTD) -> tuple[np.ndarray, np.ndarray]:
    """(codes [L, T, F], errors [L, T, D]) by our own dictionaries, with nothing at the first token."""
    if len(dictionaries) == LAYERS:
        pairs = list(zip(dictionaries, x_LTD, strict=True))
        codes = np.stack([dense(one.encode(x), F) for one, x in pairs])
        yhat = np.stack([one.reconstruct(x) for one, x in pairs])
    else:
        x_BD = x_LTD.transpose(1, 0, 2).reshape(T, -1)
        (one,) = dictionaries
        codes = (
            np.asarray(dense(one.encode(x_BD), LAYERS * F)).reshape(T, F, LAYERS).transpose(2, 0, 1)
        )
        yhat = np.asarray(one.reconstruct(x_BD)).reshape(T, LAYERS, -1).transpose(1, 0, 2)
    return np.array(codes), y_LTD - yhat


def summed(codes: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """The first token is left out: circuit-tracer zeroes its features."""
    codes, errors = codes[:, 1:], errors[:, 1:]
    return {
        "features of the graph": float((codes > 0).sum()),
        "sum of the codes": float(codes.sum()),
        "largest code": float(codes.max()),
        "length of the errors": float(np.linalg.norm(errors)),
    }
