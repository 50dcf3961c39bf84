"""Recovery of planted features by group bias adaptation under many settings, against TopK and L1.

    dictlearn train --config=experiments/gba_recovery.py               (or :balanced, :settings, :smoke)

Imbalanced data (p6): 128 features in 42 dimensions, 3 on in half of the tokens and 20 in the others. So a
feature is on in 9 % of the tokens, and no single k fits. Tokens of unit norm, 256 latents, batches of 256, 2000
steps, biases adapted every 50. `one target` is BA; `highest target` is GBA, 10 groups down to 0.001. Chen et
al. 2025 report the percentages found at cosine 0.8 / 0.9. GBA: 100 / 100, at a wrong frequency 38 / 4. TopK:
100 / 98 at k 20, 98 / 24 at 30, 95 / 23 at 50. Their width and steps are not known to us.

Expected (`recovery`: share of features found at cosine 0.8 and at 0.9, and L0; means of two seeds; jax 0.10.2):

    highest target 0.04   1.00  0.92   3.0      topk  6   1.00  1.00    relu 0.03   0.71  0.25  70.9
                   0.1    0.98  0.86   5.4           12   0.98  0.76         0.1    1.00  1.00  26.7
                   0.5    0.01  0.00  14.3           20   0.00  0.00         0.3    1.00  1.00  10.6
    one target     0.01   1.00  0.96   2.6           40   0.00  0.00
                   0.09   0.93  0.51  15.8
                   0.3    0.00  0.00  24.6

`settings`: GBA alone, 3000 steps, biases adapted every 10, highest target 0.05 where it is not varied:

    highest target 0.025 / 0.05 / 0.1   0.99 / 0.98 / 0.98 at 0.8    0.98 / 0.95 / 0.90 at 0.9
    groups         5 / 20               0.99 / 1.00                  0.93 / 0.96
    width          128 / 512            0.87 / 1.00                  0.77 / 0.93
    rate           0.005 / 0.02         0.99 / 1.00                  0.94 / 0.95

With updates every 50, 0.96 to 1.00 and 0.82 to 0.95, and width 128 is then no worse (0.98 and 0.95).

`balanced` (p5: 64 features in 32 dimensions, exactly 3 on, s / n 0.047), as the first table:

    one target     0.003  0.99  0.96   2.6      topk  3   1.00  1.00    relu 0.03   1.00  0.98  29.5
                   0.047  1.00  0.97   7.0            6   1.00  0.99         0.1    1.00  1.00  12.6
                   0.3    0.72  0.23   9.8           12   0.83  0.50         0.3    1.00  1.00   5.9
    relu shift     0.047  0.05  0.00  80.6      highest target 0.1   1.00  0.95   5.6
                   0.003  0.10  0.01  57.7                     0.5   0.41  0.11  10.6

What holds: recovery is high at a target at or below the features' frequency and falls far above it. The shifted
ReLU fails at every target. GBA tolerates a fourfold change of its settings, while TopK does not tolerate k from
12 to 20. What does not: L1 over its good decade, and TopK at a small k, find as much. A highest target of 0.5,
as in the paper's second version, fails at this size.
"""

from ml_collections import ConfigDict

ARGS = ("", "balanced", "settings", "smoke")


def members(arg: str) -> dict:
    """NAME: one setting that varies, the rest as the name says; every seed of a member shares its program."""
    gba = lambda sweep, **fields: {"dictionary": {"name": "gba", **fields}, "sweep": sweep}
    kind = lambda sweep, **fields: {"dictionary": fields, "sweep": sweep}
    if arg == "settings":
        usual = {"density_high": 0.05}
        return {
            "highest target": gba({"density_high": (0.025, 0.05, 0.1)}),
            "groups": gba({"groups": (5, 20)}, **usual),
            "width": gba({"n_latents": (128, 512)}, **usual),
            "rate": gba({"lr": (5e-3, 2e-2)}, **usual),
        }
    balanced = arg == "balanced"
    frequency = (0.003, 0.047, 0.3) if balanced else (0.01, 0.09, 0.3)
    found = {
        "one target": gba({"density_high": frequency}, groups=1),
        "highest target": gba({"density_high": (0.04, 0.1, 0.5)}),
        "topk": kind({"k": (3, 6, 12) if balanced else (6, 12, 20, 40)}, name="topk", aux_k=0),
        "relu": kind({"sparsity": (0.03, 0.1, 0.3)}, name="relu"),
    }
    if balanced:
        found["relu shift"] = gba({"density_high": frequency}, groups=1, activation="relu")
    return found


def get_config(arg: str = "") -> ConfigDict:
    """`balanced`: 64 features in 32 dimensions, 3 on. `settings`: GBA's own, trained for longer. `smoke`
    shrinks it to a minute."""
    if arg not in ARGS:
        raise ValueError(f"gba_recovery takes no {arg!r}; there are {', '.join(ARGS[1:])}.")
    smoke, balanced, settings = (arg == name for name in ("smoke", "balanced", "settings"))
    config = ConfigDict()
    config.seed = 0
    config.steps = 20 if smoke else 3000 if settings else 2000
    config.batch_size = 64 if smoke else 256
    config.log_every = 20
    config.checkpoint_every = 1000

    kind = "p5" if balanced else "p6"
    config.stream = {"name": "synthetic", "kind": kind, "normalise": "token_unit"}
    config.dictionary = {"n_latents": 64 if smoke else 256}
    config.objective = {"name": "squared_error"}
    config.rule = {"name": "adam", "warmup_steps": 10, "decay_fraction": 0.5}
    config.rule["lr"] = 1e-2 if settings else 8e-3
    config.learner = {"dead_after": 10_240, "b_dec_start": "zeros"}
    if settings:
        config.revive = {"name": "adapt_bias", "every": 10}
    config.members = {k: v for k, v in members(arg).items() if not smoke or k == "one target"}
    for member in config.members.values():
        member["sweep"]["seed"] = (0, 1)
    config.evaluate = {"n_tokens": 256 if smoke else 8192}
    config.analyses = {"recovery": {"at": (0.8, 0.9)}}
    return config
