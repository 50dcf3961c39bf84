"""End to end beside local: the L0 that each needs for the same CE score.

    python experiments/e2e_frontier.py                   both runs, frontier.json, frontier.png and a table
    python experiments/e2e_frontier.py runs/DIR pod      the same, pod-sized
    dictlearn train --config=experiments/e2e_frontier.py:local (then :tuned), each run by itself

SmolLM2-135M-Instruct (4-bit), residual stream after block 24 of 30. `local` trains TopK on activations. `tuned`
goes on from there on whole sequences, three times: by the same objective (`local_more`), by KL(original ||
spliced) (`e2e`), and by that and the errors of all later residual streams (`e2e_ds`, Braun et al. 2024). What
tuning sees is the same for all. Without `config.start` the same configs train end to end from scratch.

Claim (Braun et al. 2024, GPT-2): for the same CE loss, end-to-end dictionaries need less than half the L0.

Expected (512 latents; 76,800 tokens in batches of 512 out of 10,240, then 5,120 in batches of 4 sequences of
64; measured on 998 held-out tokens of sequences as short; jax 0.10.2, CPU; docs/e2e_frontier.png; last column:
the L0 at which `local_more` has that CE score, its two points joined in log L0):

    kind          L0   CE score   KL      explained   dead    local needs
    local          8   0.818      2.049   0.492       0.102
                  32   0.875      1.503   0.569       0.000
    local_more     8   0.819      2.039   0.491       0.094
                  32   0.876      1.501   0.566       0.000
    e2e            8   0.851      1.765   0.461       0.100   17.2
                  32   0.896      1.327   0.536       0.000   -
    e2e_ds         8   0.839      1.848   0.477       0.100   12.9
                  32   0.891      1.357   0.553       0.000   -

Twenty steps through the model at L0 8 are worth what local training has at L0 17 (13 with the later residual
streams), as the paper says, and cost 0.030 of the explained variance (0.014); the same tokens under the local
objective change nothing. At L0 32 both are better than anything the local curve reaches. The dictionaries are
far from converged, both ratios are from one seed, and latents that were dead stay so.
"""

import itertools
import math
import sys
from pathlib import Path

from ml_collections import ConfigDict

from dictlearn import lm as language
from dictlearn.analyses.frontier import frontier
from dictlearn.evaluate import evaluate
from dictlearn.harvest import harvest
from dictlearn.runs.workdir import write_json
from dictlearn.train import train

LAYER, LAYERS = 24, 30
TAP = f"resid.{LAYER}"
KINDS = ("local", "tuned")
SIZES = {
    "": {"n": 512, "k": (8, 32), "steps": (150, 20), "batch": (512, 256), "tokens": 10_240},
    "smoke": {"n": 96, "k": (8,), "steps": (10, 2), "batch": (128, 64), "tokens": 1_000},
    "pod": {
        **{"n": 2**15, "k": (8, 16, 32, 64, 128), "steps": (50_000, 20_000)},
        **{"batch": (4096, 2**14), "tokens": 200_000_000},
    },
}


def members() -> dict:
    """NAME: its objective. The paper's 2.5 is for GPT-2; SmolLM2's activations are larger."""
    later = tuple(f"resid.{layer}" for layer in range(LAYER + 1, LAYERS))
    ds = {"coefficient": 0.5, "downstream": later, "downstream_coefficient": 0.02}
    return {
        "local_more": {"objective": {"name": "fvu"}},
        "e2e": {"objective": {"name": "kl"}},
        "e2e_ds": {"objective": {"name": "kl", **ds}},
    }


def get_config(arg: str = "", folder: str = "runs/e2e_frontier") -> ConfigDict:
    """`local` or `tuned` (the default), `smoke` or `pod`; separated by commas."""
    words = [word for word in arg.split(",") if word]
    kinds, sizes = ([w for w in words if w in known] for known in (KINDS, SIZES))
    if len(kinds) > 1 or len(sizes) > 1 or len(words) > len(kinds + sizes):
        raise ValueError(f"e2e_frontier takes no {arg!r}; there are local, tuned, smoke and pod.")
    kind, name = (kinds or ["tuned"])[0], (sizes or [""])[0]
    size, place = SIZES[name], KINDS.index(kind)
    config = ConfigDict()
    config.seed = 0
    config.steps, config.batch_size = size["steps"][place], size["batch"][place]
    config.log_every = 5
    config.model = {"name": "smollm2"}
    config.harvest = {
        "taps": (TAP,),
        "n_tokens": size["tokens"],
        "sequence_length": 1024 if name == "pod" else 64,
        "shard_rows": 16_384,
        "lm_batch": 4,
        "held_out": 0.05,
    }
    config.dictionary = {"name": "topk", "n_latents": size["n"], "aux_k": 32}
    config.sweep = {"k": size["k"]}
    config.learner = {"dead_after": 60_000, "b_dec_start": "mean"}
    config.rule = {"name": "adam", "warmup_steps": 10, "decay_fraction": 0.3}
    config.stream = {"name": "from_lm", "normalise": "unit_mean_sq"}
    if kind == "local":
        config.stream = {
            **{"name": "store", "path": f"{folder}/activations", "block_rows": 16},
            "normalise": "unit_mean_sq",
        }
        config.objective = {"name": "fvu"}
        config.rule["lr"] = 4e-3
    else:
        config.rule["lr"] = 1e-3
        config.members = members()
        config.start = {"workdir": f"{folder}/local", "program": f"topk_n{size['n']}_0"}
    config.meters = {"n_tokens": 512, "n_sequences": 8 if name == "smoke" else 16}
    return config


def l0_at(points: list[tuple[float, float]], score: float) -> float | None:
    """The L0 at which a curve of (L0, score) has `score`, linear in log L0; None outside the curve."""
    points = sorted(points)
    for (l0, low), (l1, high) in itertools.pairwise(points):
        if low <= score <= high and low < high:
            share = (score - low) / (high - low)
            return math.exp(math.log(l0) + share * (math.log(l1) - math.log(l0)))
    return None


def main(folder: str = "runs/e2e_frontier", size: str = "") -> list[dict]:
    """Both runs in `folder`. Rows of `frontier.json`: each dictionary's L0 and CE score, and the L0 that
    `local_more` needs for that score."""
    metrics = {}
    for kind in KINDS:
        config: dict = get_config(f"{kind},{size}", folder).to_dict()
        if kind == "local":
            lm = language.load(**config["model"])
            harvest(lm, config["stream"]["path"], seed=config["seed"], **config["harvest"])
        train(config, Path(folder, kind))
        found = evaluate(config, Path(folder, kind))
        metrics |= {name.replace("topk", "local"): record for name, record in found.items()}
    points = {}
    for name, one in metrics.items():
        points.setdefault(name.rsplit("_n", 1)[0], []).append((one["l0"], one["ce_score"]))
    rows = []
    for name, one in metrics.items():
        row = {
            key: one[key] for key in ("l0", "ce_score", "kl", "explained_variance", "dead_fraction")
        }
        row["local_l0"] = l0_at(points["local_more"], one["ce_score"])
        rows.append({"name": name, **row})
        needed = "-" if row["local_l0"] is None else f"{row['local_l0']:.1f}"
        values = (f"{key} {row[key]:.3f}" for key in list(row)[:-1])
        print(f"{name:22}", *values, f"local needs L0 {needed}", sep="  ")
    write_json(Path(folder, "frontier.json"), {"rows": rows})
    frontier(metrics, Path(folder))
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:])
