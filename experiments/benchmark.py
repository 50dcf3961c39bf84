"""Six kinds at one L0 in the suite `packaged`: what their latents know, and what random latents know too.

    dictlearn harvest   --config=experiments/topk_scaling.py       (once; the same activations)
    dictlearn train     --config=experiments/benchmark.py          (or `smoke`, `pod`, of both; NAME,NAME)
    dictlearn benchmark --suite=packaged --dictionary=runs/benchmark --seeds=0 \\
        --evaluations=core,sparse_probing,scr,tpp,absorption           (sizes: docs/evaluations.md)

SmolLM2-135M-Instruct (4-bit weights), residual stream after block 9, 440,000 tokens of Wikipedia leads. 1024
latents, 800 steps of 512, the recommended settings of each kind with three seeds. ITDA has no seed: its atoms
are the first tokens that the others do not explain, as in experiments/itda_vs_sae.py. The L0 that is asked of
JumpReLU, GBA and ITDA is such that held-out tokens have 32. The benchmark adds random dictionaries, residual
channels and principal components. It reads:

    core             the store's held-out tokens
    sparse_probing   leads of Wikipedia by topic (five), and by language (three)
    scr              leads by topic (two pairs), with whether they mention a year as the bias
    tpp              leads by topic (five)
    absorption       1,000 words of SmolLM2's vocabulary, by their first letter

Claim (Bussmann et al. 2025, section 4): Matryoshka absorbs less than BatchTopK, at a small cost in explained
variance.

Expected (one draw, 95 % intervals over three seeds; jax 0.10.2; 27 minutes of training and 29 of evaluation on
two CPU cores that other jobs share; the whole table is in docs/evaluations.md):

                  explained variance   probes of 1      TPP 20           absorption       its L0
    topk          0.802 +- 0.001       0.850 +- 0.074   0.268 +- 0.063   0.116 +- 0.130   32
    batch_topk    0.824 +- 0.001       0.812 +- 0.044   0.331 +- 0.034   0.302 +- 0.203   74
    jumprelu      0.826 +- 0.001       0.806 +- 0.021   0.352 +- 0.054   0.241 +- 0.130   75
    matryoshka    0.800 +- 0.002       0.795 +- 0.022   0.410 +- 0.074   0.361 +- 0.175   65
    gba           0.807 +- 0.003       0.811 +- 0.035   0.334 +- 0.067   0.115 +- 0.114   64
    itda          0.737                0.810            0.013            0.199            33
    random        0.203 .. 0.208       0.802 .. 0.809   0.000            0.000            32 .. 75

The claim does not show: Matryoshka explains less and absorbs no less. It is the best in TPP, and a random
dictionary is probed as well as any. Measured when recommended settings had a b2 of 0.999 for every run.
"""

from ml_collections import ConfigDict

from dictlearn import recommended

SIZES = {
    "": {"n": 1024, "steps": 800, "batch": 512, "evaluate": 16_384, "seeds": (0, 1, 2)},
    "smoke": {"n": 256, "steps": 10, "batch": 128, "evaluate": 1024, "seeds": (0, 1)},
    "pod": {"n": 65_536, "steps": 100_000, "batch": 8192, "evaluate": 1_000_000}
    | {"seeds": (0, 1, 2)},
}
D_IN = 576
L0 = 32
ASKED = {"topk": 32, "batch_topk": 32, "jumprelu": 31, "matryoshka": 32, "gba": 46, "itda": 36}
"""The kinds, with the L0 that is asked of each so that held-out tokens have 32."""


def member(kind: str, size: dict) -> dict:
    """What a kind has of its own."""
    sizes = {
        "n_latents": size["n"],
        "batch_size": size["batch"],
        "tokens": size["steps"] * size["batch"],
    }
    found = recommended(kind, d_in=D_IN, l0=ASKED[kind], **sizes)
    kept = ("dictionary", "objective", "rule", "learner", "revive")
    own = {key: found[key] for key in kept if key in found}
    if kind == "itda":
        return {**own, "learner": {"name": "itda", "tolerance": 0.2}}
    return {**own, "sweep": {"seed": size["seeds"]}}


def get_config(arg: str = "") -> ConfigDict:
    """`smoke`, `pod`, or names of kinds, which are then alone: `smoke,topk,itda`."""
    words = [word for word in arg.split(",") if word]
    sizes = [word for word in words if word in SIZES] or [""]
    kinds = [word for word in words if word not in SIZES] or list(ASKED)
    if unknown := sorted(set(kinds) - set(ASKED)):
        raise ValueError(f"benchmark has no {unknown}; there are smoke, pod, {', '.join(ASKED)}.")
    size, suffix = SIZES[sizes[0]], sizes[0] and f"-{sizes[0]}"
    config = ConfigDict()
    config.seed = 0
    config.steps, config.batch_size = size["steps"], size["batch"]
    config.log_every = max(1, size["steps"] // 40)
    config.checkpoint_every = size["steps"]
    config.model = {"name": "smollm2"}
    config.stream = {
        "name": "store",
        "path": f"runs/topk_scaling{suffix}/activations",
        "normalise": "mean_norm_sqrt_d",
    }
    config.members = {kind: member(kind, size) for kind in kinds}
    config.evaluate = {"n_tokens": size["evaluate"], "n_sequences": 0}
    if sizes[0] == "pod":
        config.mesh = {"data": 16, "model": 4}
    return config
