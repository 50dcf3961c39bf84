"""Six kinds at one L0 in the suite `packaged`: what their latents know, and what random latents know too.

    dictlearn harvest   --config=experiments/topk_scaling.py       (once; the same activations)
    dictlearn train     --config=experiments/benchmark.py          (or `smoke`, `pod`, of both; NAME,NAME)
    dictlearn benchmark --suite=packaged --dictionary=runs/benchmark \\
        --evaluations=core,sparse_probing,scr,tpp,absorption

SmolLM2-135M-Instruct (4-bit weights), residual stream after block 9, 440,000 tokens of Wikipedia leads. 1024
latents, 800 steps of 512, the recommended settings of each kind with three seeds. ITDA has no seed: its atoms
are the first tokens that the others do not explain, as in experiments/itda_vs_sae.py. The L0 that is asked of
JumpReLU, GBA and ITDA is such that held-out tokens have 32. The benchmark adds random dictionaries, residual
channels and principal components. It reads:

    core             the store's held-out tokens
    sparse_probing   leads of Wikipedia by topic (five), and by language (three)
    scr              leads by topic (two pairs), with whether they mention a year as the bias
    tpp              leads by topic (five)
    absorption       2,000 words of SmolLM2's vocabulary, by their first letter

Claim (Bussmann et al. 2025, section 4): Matryoshka absorbs less than BatchTopK at a small cost in explained
variance.
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
