"""SHIFT: classifiers of a topic that learnt what comes with it, mended by taking out latents.

    dictlearn harvest --config=experiments/topk_scaling.py                 (once; the same activations)
    dictlearn train   --config=experiments/shift.py                        (or `smoke`, `pod` of both)
    for w in 1 2; do dictlearn analyse shift runs/shift --workdir=runs/shift/planted-$w --shift.task=planted \
        --shift.given="{'weather': $w, 'n': 400}" --shift.pair="('fruit', 'metal')" --shift.context=24 \
        --shift.threshold=0.001 --shift.most=4096 --shift.n_train=320 --shift.n_effects=60; done

SmolLM2-135M-Instruct (4-bit weights), residual stream after block 9. TopK with 2048 latents, k 32, two seeds,
256,000 tokens of English Wikipedia leads; three splits of the documents. Packaged text: leads whose topic is
Geography or People, always in French or Spanish (`languages`; 320 ambiguous ones). Planted: sentences with a
fruit or a metal, always with a word of dry or wet weather, or with two (`planted`; 266). The judge has balanced
labels. It takes out the listed latents that tell the value better than the class.

Claim (Marks et al. 2024, Gemma 2 2B, profession and gender): the original classifier has 67.7 % of the class,
81.9 % of the value and 18.2 % in the worst group; after SHIFT and retraining 95.0, 52.4 and 92.9; the
bottleneck has 90.2, 50.1 and 86.8, the oracle 95.0, 50.6 and 92.8.

Expected (class, value, worst group in %; 95 % intervals over six runs are at most 2.1 in class and value and
6.8 in the worst group of the retrained classifier, 3.9 and 15.8 of SHIFT, 2.7 and 8.2 of the bottleneck; jax
0.10.2, six minutes on two busy cores, and three or four for each planted arm):

                    leads, language     planted, one word   planted, two words
    original        61.6  86.8  15.4    90.6  59.5  78.1    51.2  98.8   1.0
    SHIFT           75.6  73.0  34.8    94.2  55.5  79.6    69.3  78.9   2.0
    retrained       78.0  70.0  50.6    98.6  51.4  95.8    70.8  79.2  38.6
    bottleneck      92.7  53.1  86.0    99.9  50.1  99.8    99.4  50.1  98.0
    skyline         73.2  74.3  33.1    91.7  57.5  70.4    69.0  77.7   0.5
    oracle          97.2  49.1  93.3    99.6  49.6  99.0    99.6  49.9  99.0

With one planted word the claim holds; the class was the easier of the two to read there. With two words, and
with languages, it holds in part: what stays, which is the error and latents that are not listed, says the value
too, and the retrained classifier reads it. The bottleneck, which has the listed latents alone, tells the value
at chance or nearly. Measured when recommended settings had a b2 of 0.999 for every run.
"""

from ml_collections import ConfigDict

from dictlearn import recommended

SIZES = {
    "": {"n": 2048, "k": 32, "steps": 500, "batch": 512, "evaluate": 16_384, "train": 320}
    | {"splits": 3, "effects": 60},
    "smoke": {"n": 96, "k": 4, "steps": 20, "batch": 128, "evaluate": 1024, "train": 16}
    | {"splits": 2, "effects": 8},
    "pod": {"n": 2**16, "k": 32, "steps": 100_000, "batch": 8192, "evaluate": 1_000_000}
    | {"train": 800, "splits": 5, "effects": 100},
}


def get_config(arg: str = "") -> ConfigDict:
    """`smoke` or `pod`."""
    if arg not in SIZES:
        raise ValueError(f"shift takes no {arg!r}; there are smoke and pod.")
    size = SIZES[arg]
    config = ConfigDict()
    config.seed = 0
    config.steps, config.batch_size = size["steps"], size["batch"]
    config.log_every = max(1, size["steps"] // 40)
    config.model = {"name": "smollm2"}
    n, k, tokens, batch = size["n"], size["k"], size["steps"] * size["batch"], size["batch"]
    config.update(recommended("topk", d_in=576, n_latents=n, l0=k, tokens=tokens, batch_size=batch))
    config.sweep = {"seed": (0, 1)}
    path = f"runs/topk_scaling{arg and f'-{arg}'}/activations"
    config.stream = {"name": "store", "path": path, **config.stream}
    config.evaluate = {"n_tokens": size["evaluate"], "n_sequences": 0}
    config.analyses = {
        "shift": {
            **{"task": "languages", "given": {"label": "topic"}, "pair": ("Geography", "People")},
            **{"values": ("French", "Spanish"), "threshold": 0.001, "most": 2 * size["n"]},
            **{"n_train": size["train"], "n_test": size["train"] // 2, "context": 48},
            **{"n_effects": size["effects"], "splits": size["splits"]},
        }
    }
    if arg == "pod":
        config.mesh = {"data": 16, "model": 4}
    return config
