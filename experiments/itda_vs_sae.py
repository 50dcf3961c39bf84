"""ITDA beside TopK on the same tokens: CE score and explained variance against L0, tokens and time.

    dictlearn harvest --config=experiments/quickstart.py           (once; the same activations)
    dictlearn train   --config=experiments/itda_vs_sae.py
    dictlearn analyse --config=experiments/itda_vs_sae.py frontier --frontier.l0=16
    python experiments/itda_vs_sae.py                              (time.json, time.png: both against time)

SmolLM2-135M-Instruct (4-bit), residual stream after block 9, one pass over 102,400 tokens, 1536 latents or
atoms, k of 8, 16 and 32. `:topk`, `:itda` or `:itda_size` trains that kind alone, for its time.

Claim (Leask et al. 2025, section 4): ITDA needs far fewer tokens than an SAE, and its reconstructions come
close to TopK's without reaching them.

Expected (8,192 held-out tokens; dead fraction of ITDA 0; jax 0.10.2, 2 CPU cores):

               explained variance        CE score                  L0
    k          8      16     32          8      16     32          8     16    32
    topk       0.686  0.727  0.763       0.884  0.910  0.934       8.0  16.0  32.0
    itda       0.633  0.692  0.754       0.840  0.890  0.935       6.4  13.4  28.2
    itda_size  0.582  0.653  0.730       0.827  0.881  0.928       6.4  13.5  28.5

At L0 16: topk 0.727 (CE score 0.910), itda 0.707 (0.900), itda_size 0.670 (0.892). Explained variance of the
batch at hand against tokens seen, k 16:

    tokens     5,120  10,240  20,480  51,200  102,400
    topk       0.309   0.487   0.603   0.669    0.727
    itda       0.695   0.684   0.687   0.678    0.689
    itda_size  0.626   0.616   0.629   0.628    0.644

One dictionary, k 16, `python experiments/itda_vs_sae.py`, each row a run of its own whose rate falls to zero in
it; seconds of training without compiling, two idle cores:

    topk   tokens               5,120   10,240   25,600   51,200   102,400
           seconds               0.25     0.38     0.98     2.77      3.81
           CE score             0.612    0.747    0.846    0.886     0.909
           explained variance   0.312    0.488    0.623    0.682     0.727
    itda   tokens               1,024    2,560    5,120   10,240
           seconds               0.22     0.23     0.39     0.72
           CE score             0.850    0.881    0.890    0.890
           explained variance   0.637    0.684    0.692    0.692

At a tolerance of 0.2 the 1536 rows are full after 5,120 tokens (at k 32 soon after), and nothing changes from
there. The CE score that ITDA has after 0.39 seconds (0.23 for 0.881) takes TopK half of its 102,400 tokens, 2.8
seconds: seven to twelve times as long; TopK goes on from there, to 0.909 after ten times ITDA's time.
`itda_size` is the threshold that just fills the
rows in one pass: it keeps what is explained worst, outliers among it, and reconstructs less well. With 1024
rows, k 16, 51,200 tokens, explained variance of the last fifth: tolerance 0 (the first tokens there are)
0.647, 0.2 0.664, 0.3 0.653, 0.4 0.630 (980 atoms), 0.5 0.600 (583 atoms); size 1024 0.628. In batches of 64
instead of 512: tolerance 0.3 0.634.
"""

import sys
import time
from pathlib import Path

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from dictlearn.evaluate import evaluate
from dictlearn.runs.workdir import write_json
from dictlearn.train import train

BUDGETS = {"topk": (10, 20, 50, 100, 200), "itda": (2, 5, 10, 20)}
"""Steps of the runs whose time is taken; the rates of each fall to zero in its own."""
K = {"sweep": {"k": (8, 16, 32)}}


def members(n_latents: int) -> dict:
    """NAME: what it has of its own."""
    atoms = lambda **how: {"dictionary": {"name": "itda"}, "learner": {"name": "itda", **how}} | K
    return {
        "topk": {"dictionary": {"name": "topk", "aux_k": 32}} | K,
        "itda": atoms(tolerance=0.2),
        "itda_size": atoms(size=n_latents),
    }


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` shrinks it; `smoke,NAME,NAME` or `NAME,NAME` keeps those kinds."""
    words = [word for word in arg.split(",") if word]
    smoke = "smoke" in words
    n_latents = 192 if smoke else 1536
    every = members(n_latents)
    chosen = [word for word in words if word != "smoke"] or list(every)
    unknown = sorted(set(chosen) - set(every))
    if unknown:
        raise ValueError(f"itda_vs_sae has no {', '.join(unknown)}; there are {', '.join(every)}.")
    config = ConfigDict()
    config.seed = 0
    config.steps = 20 if smoke else 200
    config.batch_size = 256 if smoke else 512
    config.log_every = 10
    config.checkpoint_every = 100

    config.model = {"name": "smollm2"}
    config.stream = {
        "name": "store",
        "path": "runs/quickstart/activations",
        "normalise": "unit_mean_sq",
    }
    config.dictionary = {"n_latents": n_latents}
    if "topk" in chosen:
        config.objective = {"name": "fvu"}
        config.rule = {"name": "adam", "lr": 4e-3, "warmup_steps": 10, "decay_fraction": 0.3}
        config.learner = {"dead_after": 60_000}
    config.members = {name: every[name] for name in chosen}
    config.evaluate = {"n_tokens": 1024 if smoke else 8192, "n_sequences": 8}
    return config


def timed(kind: str, steps: int, folder: Path, smoke: bool) -> dict:
    """One dictionary with k 16 trained for `steps` and measured. seconds: of the steps but the first, which
    compiles, scaled up to all of them; seconds_in_all: with opening the data and compiling."""
    config: dict = get_config(f"{'smoke,' * smoke}{kind}").to_dict() | {"steps": steps}
    config["members"][kind]["sweep"]["k"] = (16,)
    path, ticks = folder / f"{kind}_{steps}", [time.monotonic()]
    train(config, path, progress=lambda done, total: ticks.append(time.monotonic()))
    whole = time.monotonic() - ticks[0]
    ((_, record),) = evaluate(config, path).items()
    return {
        "kind": kind,
        "tokens": steps * config["batch_size"],
        "seconds": (ticks[-1] - ticks[1]) * steps / (steps - 1),
        "seconds_in_all": whole,
        **{key: record[key] for key in ("l0", "explained_variance", "ce_score")},
    }


def draw(found: list[dict], path: Path) -> None:
    """The CE score and the explained variance of both kinds, against tokens and against seconds."""
    figure = Figure(figsize=(9, 7), dpi=160, layout="constrained")
    rows = figure.subplots(2, 2, sharey="row", sharex="col")
    for axes_row, y in zip(rows, ("ce_score", "explained_variance"), strict=True):
        for axes, x in zip(axes_row, ("tokens", "seconds"), strict=True):
            for kind, marker in zip(BUDGETS, "os", strict=True):
                points = [one for one in found if one["kind"] == kind]
                axes.plot([p[x] for p in points], [p[y] for p in points], marker=marker, label=kind)
            axes.set_xscale("log")
            axes.grid(color="#e4e4e4", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        axes_row[0].set_ylabel(y.replace("_", " "))
    rows[1][0].set_xlabel("tokens seen")
    rows[1][1].set_xlabel("seconds of training, without compiling")
    rows[0][0].legend()
    figure.savefig(path)


def main(folder: str = "runs/itda_time", smoke: str = "") -> None:
    found = []
    for kind, budgets in BUDGETS.items():
        for steps in budgets[:2] if smoke else budgets:
            found.append(timed(kind, steps, Path(folder), bool(smoke)))
            print(*(f"{k} {v if isinstance(v, str) else f'{v:.4g}'}" for k, v in found[-1].items()))
    write_json(Path(folder, "time.json"), {"runs": found})
    draw(found, Path(folder, "time.png"))


if __name__ == "__main__":
    main(*sys.argv[1:])
