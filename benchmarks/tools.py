"""Tools that people use, run on dictionaries trained here: what a tool says of our files, beside what we say.

    python benchmarks/tools.py --saelens=PYTHON --sae_bench=PYTHON --sae_dashboard=PYTHON --delphi=PYTHON
    python benchmarks/tools.py --circuit_tracer=PYTHON

PYTHON is the interpreter of an environment of its own with torch 2.13.0 and the tool: sae-lens 6.54.12;
sae-bench 0.6.0 without torchvision; sae-dashboard 0.8.0 with pyarrow below 21; eai-delphi 0.1.3 without its
dependencies (vllm), but with asyncer, blobfile, lxml, orjson, pycryptodomex, faiss-cpu, transformers, datasets,
simple-parsing, eai-sparsify, jaxtyping, beartype and sentence-transformers; circuit-tracer 0.4.1 of
decoderesearch with huggingface-hub below 1.

The model is SmolLM2, whole for the first four, and its first layers alone for circuit-tracer.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
import tools_circuits
from tools_common import MODEL, TRANSFORMER_LENS, ran, table

from dictlearn import dense, events, interop, meters, restore
from dictlearn import lm as language
from dictlearn.analyses import _neuronpedia
from dictlearn.harvest import harvest
from dictlearn.interop import _latent_cache
from dictlearn.lm import splice
from dictlearn.meters import Reading, Subject, loss_recovered
from dictlearn.runs.trained import Trained
from dictlearn.train import train

TAP, T, S, F = "resid.9", 64, 32, 768
LATENTS = 5
MEASURES = (
    *("explained_variance", "l0", "l1", "l2_ratio", "cossim", "relative_reconstruction_bias"),
    *("ce_loss_without_sae", "ce_loss_with_sae"),
)
"""Those that all say in the same words; SAEBench 0.6.0 has E[x^2] for E[x] in its explained variance."""

EVALUATED = """
from datasets import Dataset
from sae_lens import SAE
from sae_lens.training.activations_store import ActivationsStore
sae = SAE.load_from_disk(f"{home}/sae", device="cpu")
data = Dataset.from_dict({"tokens": tokens.tolist()})
store = ActivationsStore.from_sae(
    model, sae, data, context_size=tokens.shape[1], streaming=False, store_batch_size_prompts=8)
chosen = dict(
    batch_size_prompts=8, n_eval_reconstruction_batches=4, n_eval_sparsity_variance_batches=4, compute_kl=True,
    compute_ce_loss=True, compute_l2_norms=True, compute_sparsity_metrics=True, compute_variance_metrics=True)
"""

SAELENS = """
from sae_lens.evals import EvalConfig, run_evals
from sae_lens.training.activation_scaler import ActivationScaler
found = run_evals(
    sae, store, model, ActivationScaler(), EvalConfig(**chosen), exclude_special_tokens=[separator])[0]
"""

SAE_BENCH = """
from sae_bench.evals.core.eval_config import CoreEvalConfig
from sae_bench.evals.core.main import run_evals
from sae_bench.sae_bench_utils.general_utils import load_and_format_sae
sae = load_and_format_sae("ours", sae, "cpu")[1]
config = CoreEvalConfig(
    model_name="smollm2", exclude_special_tokens_from_reconstruction=True, **chosen)
found = run_evals(sae, store, model, config, ignore_tokens={separator})[0]
"""

FLAT = "found = {k: v for group in found.values() for k, v in group.items()}\n"

SAE_DASHBOARD = """
from pathlib import Path
from sae_lens import SAE
from sae_dashboard.data_writing_fns import save_feature_centric_vis
from sae_dashboard.sae_vis_data import SaeVisConfig
from sae_dashboard.sae_vis_runner import SaeVisRunner
sae = SAE.load_from_disk(f"{home}/sae", device="cpu")
lengths = sae.W_dec.norm(dim=1).tolist()
config = SaeVisConfig(hook_point=sae.cfg.metadata.hook_name, features=latents, minibatch_size_tokens=8)
seen = SaeVisRunner(config).run(sae, model, torch.tensor(tokens))
save_feature_centric_vis(seen, Path(f"{home}/page.html"))
found = {"bytes of its page": len(Path(f"{home}/page.html").read_bytes())}
for n, latent in enumerate(latents):
    histogram = seen.feature_data_dict[latent].acts_histogram_data
    found[f"density of {latent}, %"] = float(histogram.title.split("= ")[1].rstrip("%"))
    found[f"largest of {latent}"] = seen.feature_stats.max[n] / lengths[latent]
"""

NEURONPEDIA = """
from types import SimpleNamespace
from sae_dashboard.components_config import *
from sae_dashboard.layout import Column, SaeVisLayoutConfig
from sae_dashboard.neuronpedia.neuronpedia_converter import NeuronpediaConverter
from sae_dashboard.neuronpedia.neuronpedia_dashboard import NeuronpediaDashboardBatch
parts = (SequencesConfig(stack_mode="stack-all", buffer=None, n_quantiles=5, top_acts_group_size=20),
         ActsHistogramConfig(), LogitsHistogramConfig(), LogitsTableConfig(), FeatureTablesConfig(n_rows=3))
config.feature_centric_layout = SaeVisLayoutConfig(columns=[Column(*parts)])
seen = SaeVisRunner(config).run(SAE.load_from_disk(f"{home}/sae", device="cpu"), model, torch.tensor(tokens))
vocab = {token: text for text, token in tokenizer.get_vocab().items()}
told = SimpleNamespace(n_prompts_total=len(tokens), n_tokens_in_prompt=length, huggingface_dataset_path="wiki")
outputs = NeuronpediaConverter._process_features(model, seen.feature_data_dict, told, vocab)
theirs = {one.feature_index: one.to_dict() for one in outputs}
batch = json.load(open(f"{home}/neuronpedia/batch-0.json"))
assert NeuronpediaDashboardBatch(**batch).to_dict() == batch  # its classes hold all of it
top = lambda feature: [each for each in feature["activations"] if each["bin_min"] == -1]
peak = lambda activation: activation["values"][activation["qualifying_token_index"]]
for one in batch["features"]:
    if (latent := one["feature_index"]) in latents:
        there, scale = theirs[latent], lengths[latent]
        assert there.keys() == one.keys()
        # It leaves out the first token, a BOS; a peak there has the index -1.
        pairs = [(a, b) for a, b in zip(top(there), top(one)) if a["qualifying_token_index"] >= 0]
        assert all(a["qualifying_token_index"] + 1 == b["qualifying_token_index"] for a, b in pairs)
        found[f"top activations of {latent}"] = len(pairs)
        found[f"their largest difference, of {latent}"] = max(
            abs(peak(a) / scale - peak(b)) / peak(b) for a, b in pairs)
        bars = [numpy.array(of["freq_hist_data_bar_heights"]) for of in (there, one)]
        found[f"tokens in other bars, of {latent}"] = int(abs(bars[0] - bars[1]).sum() / 2)
"""

DELPHI = """
from delphi.config import ConstructorConfig, SamplerConfig
from delphi.latents import LatentDataset
data = LatentDataset(
    f"{home}/latents", SamplerConfig(n_examples_train=4, n_examples_test=4, n_quantiles=2),
    ConstructorConfig(min_examples=8, n_non_activating=4), tokenizer=tokenizer)
found = {"latents with a record": 0, "examples": 0}
for record in data:
    latent, n = record.latent.latent_index, data.tokens.numel()
    found["latents with a record"] += 1
    found["examples"] += len(record.examples)
    if latent in latents:
        found[f"density of {latent}, %"] = 100 * record.per_token_frequency
        found[f"largest of {latent}"] = float(record.max_activation)
"""


def trained_here(lm: language.LM, home: Path) -> Trained:
    """A JumpReLU on SmolLM2's residual stream, folded."""
    source = {"text": "wiki", "n_tokens": 8_000, "sequence_length": T}
    harvest(lm, home / "activations", (TAP,), **source)
    target = {"penalty": "target_l0", "target_l0": 16.0, "bandwidth": 0.05, "threshold_start": 0.05}
    config = {
        **{"seed": 0, "steps": 150, "batch_size": 512, "log_every": 50},
        "stream": {
            "name": "store",
            "path": str(home / "activations"),
            "tap": TAP,
            "normalise": "unit_mean_sq",
        },
        "dictionary": {"name": "jumprelu", "n_latents": F, "sparsity": 0.1, **target},
        "objective": {"name": "fvu"},
        "rule": {"name": "adam", "lr": 4e-3, "warmup_steps": 10},
    }
    train(config, home / "run")
    return restore(home / "run")[0].folded()


def said_here(lm: language.LM, trained: Trained, tokens_ST: np.ndarray) -> dict[str, float]:
    """Our meters on the tokens that are no separators, and the codes of a few latents on all."""
    mask_ST = tokens_ST != lm.separator
    x_STD = jax.jit(lambda tokens: lm.forward(lm.params, tokens)[1][TAP])(tokens_ST)
    x_BD = np.asarray(x_STD).reshape(tokens_ST.size, -1)
    y_BD, codes = trained.reconstruct(x_BD), trained.encode(x_BD)
    meter = meters.make("reconstruction", Subject(trained.module))
    sums = meter.measure(Reading(x_BD, y_BD, codes, mask_ST.reshape(-1)))
    found = meter.result(meter.update(meter.init(), sums))
    run = jax.jit(
        lambda new: splice.run(lm.forward, [TAP], lm.params, tokens_ST, mask_ST, x_STD, new)[0]
    )
    logits = {"without": run(x_STD), "with": run(np.asarray(y_BD).reshape(x_STD.shape))}
    losses = {
        k: loss_recovered.losses(v, logits["without"], tokens_ST, mask_ST)
        for k, v in logits.items()
    }
    found |= {f"ce_loss_{k}_sae": float(one["ce"] / one["n"]) for k, one in losses.items()}
    found = {name: found[name] for name in MEASURES}
    return found | {"codes": np.asarray(dense(codes, F))}


def of_latents(codes_BF: np.ndarray, latents: list[int]) -> dict[str, float]:
    told = {f"density of {i}, %": 100 * float((codes_BF[:, i] > 0).mean()) for i in latents}
    return told | {f"largest of {i}": float(codes_BF[:, i].max()) for i in latents}


def as_events(codes_BF: np.ndarray, tokens_ST: np.ndarray) -> events.Events:
    """The codes of these tokens as an event cache."""
    latent_E, place_E = np.nonzero(codes_BF.T)
    start_F = np.searchsorted(latent_E, np.arange(F + 1))
    rows = {"text": {"source": "wiki"}}
    mask_ST, val_E = np.ones(tokens_ST.shape, bool), codes_BF[place_E, latent_E]
    arrays = start_F, place_E, val_E, codes_BF.max(0), tokens_ST, mask_ST
    return events.Events(*arrays, recipe={"rows": rows})


def of_sae(given: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        lm = language.load("smollm2")
        language.save(lm, home / "model")
        trained = trained_here(lm, home)
        interop.save(trained, home / "sae", "saelens")
        text = {"text": "wiki", "sequence_length": T, "n_tokens": 60 * S}
        found = events.gather(events.job(trained, events.of_text(lm, (TAP,), **text)))
        _latent_cache.write(found, home / "latents" / TAP)
        rows_ST = language.sequences("wiki", lm.tokenizer, T - 1, lm.separator)[1].tokens_ST[:S]
        tokens_ST = np.concatenate([np.full((S, 1), lm.separator), rows_ST], axis=1).astype(
            np.int32
        )
        np.save(home / "tokens.npy", tokens_ST)
        ours = said_here(lm, trained, tokens_ST)
        codes_BF = ours.pop("codes")
        often = np.argsort(-(codes_BF > 0).sum(0))[LATENTS : 2 * LATENTS].tolist()
        known = {"latents": often, "separator": lm.separator, "length": T}
        ours |= of_latents(codes_BF, often)
        cache = as_events(codes_BF, tokens_ST)
        _neuronpedia.write(trained, lm, cache, (TAP,), home / "neuronpedia", 1)
        print("| tool | measure | there | here | difference |\n|---|---|---|---|---|")
        if python := given.get("saelens"):
            table(
                "SAELens",
                ran(python, MODEL + TRANSFORMER_LENS + EVALUATED + SAELENS + FLAT, home, **known),
                ours,
            )
        if python := given.get("sae_bench"):
            found = ran(
                python, MODEL + TRANSFORMER_LENS + EVALUATED + SAE_BENCH + FLAT, home, **known
            )
            table("SAEBench", found, ours)
        if python := given.get("sae_dashboard"):
            table(
                "SAEDashboard",
                ran(python, MODEL + TRANSFORMER_LENS + SAE_DASHBOARD + NEURONPEDIA, home, **known),
                ours,
            )
        if python := given.get("delphi"):
            whole = language.sequences("wiki", lm.tokenizer, T, lm.separator, held_out=0.0)[0]
            cached = json.loads((home / "latents" / TAP / "config.json").read_text())
            kept = cached["n_tokens"] // T
            rows, mask = whole.tokens_ST[:kept], whole.mask_ST[:kept]
            x_STD = np.asarray(jax.jit(lambda rows: lm.forward(lm.params, rows)[1][TAP])(rows))
            codes = np.asarray(dense(trained.encode(x_STD.reshape(rows.size, -1)), F))
            mine = of_latents(codes * mask.reshape(-1, 1), often)
            table("delphi", ran(python, MODEL + DELPHI, home, **known), mine)


TOOLS: dict[str, Callable] = {
    **dict.fromkeys(("saelens", "sae_bench", "sae_dashboard", "delphi"), of_sae),
    "circuit_tracer": tools_circuits.compare,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for tool in TOOLS:
        parser.add_argument(f"--{tool}", metavar="PYTHON")
    given = {tool: python for tool, python in vars(parser.parse_args()).items() if python}
    for kind in dict.fromkeys(TOOLS[tool] for tool in given):
        kind(given)


if __name__ == "__main__":
    main()
