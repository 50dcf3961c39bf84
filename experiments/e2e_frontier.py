"""End-to-end and local training: the L0 that each needs for the same CE score.

    dictlearn harvest --config=experiments/e2e_frontier.py:local
    dictlearn train   --config=experiments/e2e_frontier.py:local --workdir=runs/e2e_frontier/local
    dictlearn train   --config=experiments/e2e_frontier.py:tuned --workdir=runs/e2e_frontier/tuned
    dictlearn analyse frontier runs/e2e_frontier/local runs/e2e_frontier/tuned \
        --frontier.metrics="('ce_score', 'kl', 'explained_variance')" --frontier.reference="tuned local_more"

SmolLM2-135M-Instruct (4-bit), residual stream after block 24 of 30. `local` trains TopK on activations. `tuned`
continues from it on whole sequences, three times. `local_more` has the same objective, `e2e` has KL(original ||
spliced), and `e2e_ds` adds the errors of all later residual streams (Braun et al. 2024). The tokens are the
same for all. Without `config.start` the same configs train end to end from scratch.

Claim (Braun et al. 2024, GPT-2): for the same CE loss, end-to-end dictionaries need less than half the L0.

Expected: 512 latents; 76,800 tokens in batches of 512 out of 10,240, then 5,120 in batches of 4 sequences of
64. Measured on 998 held-out tokens of sequences as short (jax 0.10.2, CPU; docs/e2e_frontier.png). The last
column is the L0 at which `local_more` has that CE score, between its two points in log L0:

    kind          L0   CE score   KL      explained   dead    local needs
    local          8   0.818      2.049   0.492       0.102
                  32   0.875      1.503   0.569       0.000
    local_more     8   0.819      2.039   0.491       0.094
                  32   0.876      1.501   0.566       0.000
    e2e            8   0.851      1.765   0.461       0.100   17.2
                  32   0.896      1.327   0.536       0.000   -
    e2e_ds         8   0.839      1.848   0.477       0.100   12.9
                  32   0.891      1.357   0.553       0.000   -

After twenty steps through the model, L0 8 has the CE score that local training has at L0 17 (13 with the later
residual streams), as the paper says. This costs 0.030 of the explained variance (0.014). The same tokens under
the local objective change nothing. At L0 32 both are better than anything the local curve reaches. The
dictionaries are far from converged, both ratios are from one seed, and latents that were dead stay so.
"""

from ml_collections import ConfigDict

HOME = "runs/e2e_frontier"
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


def get_config(arg: str = "") -> ConfigDict:
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
    rows = {"name": "store", "path": f"{HOME}/activations", "block_rows": 16}
    rows = rows if kind == "local" else {"name": "from_lm"}
    config.stream = {**rows, "normalise": "unit_mean_sq"}
    if kind == "local":
        config.objective = {"name": "fvu"}
        config.rule["lr"] = 4e-3
    else:
        config.rule["lr"] = 1e-3
        config.members = members()
        config.start = {"workdir": f"{HOME}/local", "program": f"topk_n{size['n']}_0"}
    config.evaluate = {"n_tokens": 512, "n_sequences": 8 if name == "smoke" else 16}
    return config
