"""Contrastive sparse codes of sentence embeddings, searched for the nearest: one table, one figure.

    python experiments/csr.py [smoke]

embeds sentences of Wikipedia leads with MiniLM (384 wide, unit length) into DIR/sentences.npy, trains on them
as `dictlearn train --config=experiments/csr.py` does, and measures: DIR/csr.json, DIR/csr.png, DIR = runs/csr.
16,000 sentences to train on, which are the database, 4,000 queries from other articles; 1536 latents (4 d), 250
steps of 256 sentences, all twelve dictionaries on the same batches. About twelve minutes of CPU time, four of
them MiniLM's.

Claim (Wen et al. 2025, arXiv:2503.01776): k active latents retrieve better than k dimensions. At 8 they nearly
retrieve as the whole embedding does, where as many principal components and the first dimensions do not.

Expected (share of queries whose nearest sentence by angle has their topic, one of eleven, or is from their
article; a standard error is 0.007; explained variance on the queries; jax 0.10.2):

                    topic at k 8, 16, 32      article at k 8, 16, 32    explained variance
    csr, gamma 0    0.704   0.725   0.716     0.370   0.438   0.491     0.467   0.539   0.612
    csr, gamma 0.1  0.688   0.697   0.694     0.380   0.442   0.503     0.468   0.537   0.611
    csr, gamma 1    0.661   0.671   0.679     0.368   0.455   0.520     0.446   0.522   0.604
    topk            0.700   0.700   0.700     0.367   0.429   0.510     0.457   0.530   0.605
    pca             0.591   0.686   0.731     0.093   0.255   0.439
    truncation      0.218   0.377   0.549     0.039   0.184   0.400
    all 384         0.722                     0.671

The contrastive term (gamma) sets sentences apart: it helps to find the article (0.455 with, 0.438 without, at
k 16) and harms the topic (0.671, 0.725). It is Multi-TopK that beats TopK on topics. At 32 principal components
tell topics better than any sparse code here.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from dictlearn import cli, dense, restore
from dictlearn.lm import bert, load
from dictlearn.lm.text import documents, wiki_topics
from dictlearn.runs.workdir import write_json

KS = (8, 16, 32)
GAMMAS = (0.0, 0.1, 1.0)
SIZES = {False: (16_000, 4_000, 64), True: (192, 64, 32)}
"""smoke: (sentences to train on, queries, tokens of a sentence at most)."""


def home(smoke: bool) -> Path:
    return Path("runs/csr-smoke" if smoke else "runs/csr")


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` shrinks it to seconds."""
    if arg not in ("", "smoke"):
        raise ValueError(f"csr takes no {arg!r}; there is smoke.")
    smoke = arg == "smoke"
    n_train, n_queries, _ = SIZES[smoke]
    config = ConfigDict()
    config.seed = 0
    config.steps = 4 if smoke else 250
    config.batch_size = 64 if smoke else 256
    config.log_every = 2 if smoke else 20
    config.checkpoint_every = 1000

    path, held_out = str(home(smoke) / "sentences.npy"), n_queries / (n_train + n_queries)
    config.stream = {
        "name": "npy",
        "path": path,
        "held_out": held_out,
        "normalise": "unit_mean_sq",
    }
    config.dictionary = {"n_latents": 128 if smoke else 1536, "aux_k": 16 if smoke else 64}
    config.objective = {"name": "fvu"}
    config.rule = {"name": "adam", "lr": 2e-3, "warmup_steps": 10, "decay_fraction": 0.3}
    config.learner = {"dead_after": 30 * config.batch_size}
    config.members = {
        "csr": {"dictionary": {"name": "csr"}, "sweep": {"k": KS, "gamma": GAMMAS}},
        "topk": {"dictionary": {"name": "topk"}, "sweep": {"k": KS}},
    }
    config.evaluate = {"n_tokens": n_queries}
    return config


def sentences(
    n: int, leads: list[str], topics: dict[str, str], first: int = 0
) -> list[tuple[str, int, str]]:
    """The first `n` sentences of the leads that have a topic: (sentence, number of its article, from
    `first` on, topic). Raises ValueError where there are fewer."""
    found = []
    for article, lead in enumerate(leads, first):
        if lead in topics:
            for one in re.split(r"(?<=[.!?])\s+(?=[A-Z\"(])", lead):
                if len(one) >= 30:
                    found.append((one, article, topics[lead]))
    if len(found) < n:
        raise ValueError(f"the leads hold {len(found)} sentences; {n} were asked for.")
    return found[:n]


def embed(smoke: bool) -> None:
    """sentences.npy [N, 384], those to train on first, and labels.json: each one's article and topic."""
    n_train, n_queries, max_tokens = SIZES[smoke]
    sides, topics = documents("wiki", held_out=0.2), wiki_topics()
    chosen = [
        *sentences(n_train, sides[0], topics),
        *sentences(n_queries, sides[1], topics, len(sides[0])),
    ]
    texts, articles, labels = zip(*chosen, strict=True)
    vectors_ND = bert.embed_sentences(load("minilm"), texts, max_tokens=max_tokens)
    home(smoke).mkdir(parents=True, exist_ok=True)
    np.save(home(smoke) / "sentences.npy", vectors_ND)
    write_json(home(smoke) / "labels.json", {"article": articles, "topic": labels})


def accuracy(rows_ND: np.ndarray, topics: np.ndarray, articles: np.ndarray, n_train: int) -> dict:
    """Share of queries whose nearest row (cosine) has their label. topic: nearest of the database;
    article: nearest of the other queries, for queries whose article has another sentence among them."""
    length_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    rows_ND = rows_ND / np.maximum(length_N1, 1e-12)
    base, queries = rows_ND[:n_train], rows_ND[n_train:]
    nearest = (queries @ base.T).argmax(1)
    topic = np.mean(topics[nearest] == topics[n_train:])
    article_Q, among = articles[n_train:], queries @ queries.T
    np.fill_diagonal(among, -np.inf)
    has_other = np.bincount(article_Q)[article_Q] > 1
    article = np.mean((article_Q[among.argmax(1)] == article_Q)[has_other])
    return {"topic": float(topic), "article": float(article)}


def measure(smoke: bool) -> dict:
    """{curve: {k: accuracies}}, and under "whole" those of the full embedding."""
    x_ND = np.load(home(smoke) / "sentences.npy")
    labels = json.loads((home(smoke) / "labels.json").read_text())
    n_train = SIZES[smoke][0]
    near = lambda rows_ND: accuracy(
        rows_ND, np.array(labels["topic"]), np.array(labels["article"]), n_train
    )
    mean_D = x_ND[:n_train].mean(0)
    axes_DD = np.linalg.svd(x_ND[:n_train] - mean_D, full_matrices=False)[2]
    found = {
        "pca": {k: near((x_ND - mean_D) @ axes_DD[:k].T) for k in KS},
        "truncation": {k: near(x_ND[:, :k]) for k in KS},
    }
    for one in restore(home(smoke)):
        codes_NF = np.asarray(dense(one.encode(x_ND), one.module.n_latents))
        gamma = one.hparams["dictionary"].get("gamma")
        curve = "topk" if gamma is None else f"csr, gamma {gamma:g}"
        kept = {key: one.metrics[key] for key in ("explained_variance", "l0", "dead_fraction")}
        found.setdefault(curve, {})[one.hparams["dictionary"]["k"]] = near(codes_NF) | kept
    return {"whole": near(x_ND), "curves": found}


def draw(found: dict, path: Path) -> None:
    """Accuracy against active latents (or dimensions), a line for each way, the whole embedding dashed."""
    figure = Figure(figsize=(9.6, 4), dpi=160, layout="constrained")
    for axes, label in zip(figure.subplots(1, 2), ("topic", "article"), strict=True):
        for curve, points in found["curves"].items():
            axes.plot(KS, [points[k][label] for k in KS], marker="o", markersize=4, label=curve)
        axes.axhline(found["whole"][label], color="#777777", linestyle="--", label="all 384")
        axes.set_xscale("log", base=2)
        axes.set_xticks(KS, [str(k) for k in KS])
        axes.set_xlabel("active latents, or dimensions")
        axes.set_title(f"1-nearest-neighbour accuracy: {label}", fontsize=10)
        axes.grid(color="#e4e4e4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, format="png")


def main(arg: str = "") -> int:
    """Embeds (unless it is done), trains, measures (unless training was stopped); returns the exit status."""
    get_config(arg)
    smoke, config = arg == "smoke", f"--config={__file__}:{arg}"
    if not (home(smoke) / "labels.json").exists():
        embed(smoke)
    failed = cli.main(["train", config, f"--workdir={home(smoke)}"])
    if failed or not (home(smoke) / "metrics.json").exists():
        return failed
    found = measure(smoke)
    write_json(home(smoke) / "csr.json", found)
    draw(found, home(smoke) / "csr.png")
    print(f"{'':16} topic {KS}      article {KS}      explained variance")
    for curve, points in found["curves"].items():
        values = (
            "  ".join(f"{points[k][key]:.3f}" for k in KS if key in points[k])
            for key in ("topic", "article", "explained_variance")
        )
        print(f"{curve:16} " + "    ".join(values))
    whole = found["whole"]
    print(f"{'all 384':16} {whole['topic']:.3f}    {whole['article']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
