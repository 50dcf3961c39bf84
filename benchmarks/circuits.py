"""Attribution graphs here and in circuit-tracer: the same model, transcoders and prompt, in one run.

    python benchmarks/circuits.py --circuit_tracer=PYTHON [--kinds=transcoders,skip,clt]

PYTHON is the interpreter of an environment of its own, as for benchmarks/tools.py. The model is SmolLM2's first
three layers; transcoders, skip transcoders and a cross-layer transcoder are trained on it. docs/benchmarks.md
has the figures.
Both libraries make all rows, 256 targets at once, on all cores. Times are the second call's: the first one
compiles here.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tools_circuits import cut, trained_here
from tools_common import MODEL, ran

from dictlearn import interop
from dictlearn import lm as language
from dictlearn.circuits.attribute import attribute
from dictlearn.circuits.influence import prune, scores
from dictlearn.harvest import harvest

LAYERS, F, K, T, BATCH = 3, 512, 16, 24, 256
READ, WRITTEN = ([f"{place}.{n}" for n in range(LAYERS)] for place in ("mlp_in", "mlp_out"))

SCRIPT = """
import glob, time
from circuit_tracer.attribution.attribute import attribute
from circuit_tracer.graph import compute_graph_scores, prune_graph
from circuit_tracer.replacement_model.replacement_model_transformerlens import (
    TransformerLensReplacementModel as Replacement)
from circuit_tracer.transcoder.cross_layer_transcoder import load_clt
from circuit_tracer.transcoder.single_layer_transcoder import load_transcoder_set
import yaml
config = yaml.safe_load(open(f"{home}/ours/config.yaml"))
hooks = {key: config[key] for key in ("feature_input_hook", "feature_output_hook", "scan")}
if config["model_kind"] == "transcoder_set":
    paths = dict(enumerate(sorted(glob.glob(f"{home}/ours/layer_*.safetensors"))))
    transcoders = load_transcoder_set(
        paths, **hooks, dtype=torch.float32, lazy_encoder=False, lazy_decoder=False)
else:
    transcoders = load_clt(f"{home}/ours", **hooks, dtype=torch.float32, lazy_decoder=False)
torch.set_grad_enabled(True)
model = filled(Replacement(configured(), tokenizer))
model._configure_replacement_model(transcoders)
s = torch.tensor(tokens[0])
for _ in range(2):
    begin = time.perf_counter()
    graph = attribute(s, model, batch_size=batch)
    seconds = time.perf_counter() - begin
numpy.save(f"{home}/edges.npy", graph.adjacency_matrix.float().numpy())
numpy.save(f"{home}/latents.npy", graph.active_features.numpy())
numpy.save(f"{home}/values.npy", graph.activation_values.float().numpy())
numpy.save(f"{home}/logits.npy", graph.logit_token_ids.numpy())
nodes, edges, _ = prune_graph(graph)
numpy.save(f"{home}/nodes.npy", nodes.numpy())
replacement, completeness = compute_graph_scores(graph)
found = {"seconds": seconds, "replacement": replacement, "completeness": completeness}
"""


def made(home: Path, name: str) -> list:
    """The dictionaries of a kind, trained here."""
    if name == "clt":
        whole = {"name": "clt", "activation": "batch_topk", "sources": LAYERS}
        whole |= {"n_latents": LAYERS * F, "k": float(K * LAYERS)}
        return [trained_here(home, name, READ, WRITTEN, whole)]
    one = {"name": "batch_topk", "n_latents": F, "k": K, "skip": name == "skip"}
    return [trained_here(home, f"{name}{n}", READ[n], WRITTEN[n], one) for n in range(LAYERS)]


def row(home: Path, lm: language.LM, name: str, dictionaries: list, found: Mapping) -> str:
    """A line of the table: how far the graphs are apart, and the times."""
    tokens_T = np.load(home / "tokens.npy")[0]
    for _ in range(2):
        begin = time.perf_counter()
        graph = attribute(lm, dictionaries, tokens_T.tolist(), batch_size=BATCH)
        seconds = time.perf_counter() - begin
    theirs = {
        part: np.load(home / f"{part}.npy") for part in ("edges", "latents", "logits", "nodes")
    }
    latents_N3 = graph.latents_N3 // np.array([1, 1, graph.interleaved])
    same = np.array_equal(latents_N3, theirs["latents"])
    same &= [one.token for one in graph.logits] == theirs["logits"].tolist()
    if not same:
        return f"| {name} | nodes differ: {len(latents_N3)}, {len(theirs['latents'])} | | | | | |"
    apart = np.abs(graph.edges_MM - theirs["edges"]).max()
    kept = (prune(graph).nodes_M != theirs["nodes"]).sum()
    own = scores(graph)
    off = max(
        abs(own.replacement - found["replacement"]), abs(own.completeness - found["completeness"])
    )
    return (
        f"| {name} | {len(graph)} | {apart:.1e} | {np.abs(graph.edges_MM).max():.3g} | {kept} | {off:.1e} | "
        f"{found['seconds']:.2f} | {seconds:.2f} | {found['seconds'] / seconds:.1f} |"
    )


def main(python: str, kinds: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        lm = cut(language.load("smollm2"), LAYERS)
        language.save(lm, home / "model")
        harvest(lm, home / "activations", (*READ, *WRITTEN), n_tokens=20_000, sequence_length=64)
        rows_ST = language.sequences("wiki", lm.tokenizer, T - 1, lm.separator)[1].tokens_ST[:1]
        tokens_ST = np.concatenate([[[lm.separator]], rows_ST], axis=1).astype(np.int32)
        np.save(home / "tokens.npy", tokens_ST)
        print(
            "| set | nodes | difference | largest edge | pruned differently | scores | there, s |",
            end="",
        )
        print(" here, s | ratio |\n|---|---|---|---|---|---|---|---|---|")
        for name in kinds:
            dictionaries, path = made(home, name), home / "ours"
            if len(dictionaries) > 1:
                interop.save_all(dictionaries, path, "circuit_tracer")
            else:
                interop.save(dictionaries[0], path, "circuit_tracer_clt")
            found = ran(python, MODEL + SCRIPT, home, length=T, batch=BATCH)
            print(row(home, lm, name, dictionaries, found), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--circuit_tracer", required=True, metavar="PYTHON")
    parser.add_argument("--kinds", default="transcoders,skip,clt")
    args = parser.parse_args()
    main(args.circuit_tracer, args.kinds.split(","))
