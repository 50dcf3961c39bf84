"""Loss recovered: the language model's loss when the reconstruction replaces the activation.

    ce_score = (CE_ablated - CE_spliced) / (CE_ablated - CE_original)         1 is perfect
    kl       = mean over tokens of sum_v p_original (log p_original - log p)
    kl_score = (KL_ablated - KL_spliced) / KL_ablated

Three runs read the same tokens: original, spliced (yhat at the tap), ablated (zero at the tap); masked
positions keep their activation in all runs. Position t predicts token t + 1 and counts if t is unmasked.
All values are pooled over tokens before the division; logits and log-softmax are float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from dictlearn.meters import Column, Subject, add, ratio
from dictlearn.types import Meter

RUNS = ("original", "spliced", "ablated")
NEEDS = "model"
NOTE = "The model's loss is measured on {ce_tokens:,.0f} predictions."
COLUMNS = (
    Column(
        "ce_score",
        "CE score",
        "share of the loss under zero ablation that is recovered",
        ".4f",
        1,
        3,
    ),
    Column("ce_delta", "ΔCE", "increase of the model's loss, nats per token", ".3f", -1),
    Column("kl", "KL", "from the original to the spliced predictions, nats per token", ".3f", -1),
)


def losses(
    logits_STV: Float[Array, "S T V"],
    original_STV: Float[Array, "S T V"],
    tokens_ST: Int[Array, "S T"],
    mask_ST: Bool[Array, "S T"],
) -> dict:
    """Sums over the predicting positions of one run: tokens, cross-entropy (nats), KL from the original."""
    logp = jax.nn.log_softmax(logits_STV[:, :-1].astype(jnp.float32))
    logq = jax.nn.log_softmax(original_STV[:, :-1].astype(jnp.float32))
    mask = mask_ST[:, :-1]
    ce = -jnp.take_along_axis(logp, tokens_ST[:, 1:, None], axis=-1)[..., 0]
    # A token that the original rules out (a logit of -inf) adds nothing.
    kl = jnp.sum(jnp.where(logq == -jnp.inf, 0, jnp.exp(logq) * (logq - logp)), -1)
    agree = logp.argmax(-1) == logq.argmax(-1)
    total = lambda each: jnp.where(mask, each, 0).sum(dtype=jnp.float32)
    return {"n": total(1.0), "ce": total(ce), "kl": total(kl), "agree": total(agree)}


def result(t: dict) -> dict:
    """The metrics, from `{run: sums}` for the three runs."""
    n = t["original"]["n"]
    if n == 0:
        raise ValueError("no unmasked token was measured.")
    ce = {run: t[run]["ce"] / n for run in RUNS}
    kl = {run: t[run]["kl"] / n for run in RUNS}
    values = {
        "ce_tokens": n,
        "ce_score": ratio(ce["ablated"] - ce["spliced"], ce["ablated"] - ce["original"]),
        "ce_delta": ce["spliced"] - ce["original"],
        **{f"ce_{run}": ce[run] for run in RUNS},
        "kl": kl["spliced"],
        "kl_ablated": kl["ablated"],
        "kl_score": ratio(kl["ablated"] - kl["spliced"], kl["ablated"]),
        "top1_consistency": t["spliced"]["agree"] / n,
    }
    return {name: float(value) for name, value in values.items()}


def _zero() -> dict:
    return {run: dict.fromkeys(("n", "ce", "kl", "agree"), np.float64(0)) for run in RUNS}


def loss_recovered(subject: Subject | None = None) -> Meter:
    """The meter, which is the same for every dictionary; it measures one run at a time."""
    return Meter(lambda reading: losses(*reading), _zero, add, result)
