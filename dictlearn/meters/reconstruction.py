"""Reconstruction quality of the targets, in all conventions of the literature.

    fvu = sum s / sum v      explained_variance = 1 - fvu      mse = sum s / (T D)

with s = |y - yhat|^2 and v = |y - mean(y)|^2 about the mean over all tokens. `fve_varratio` ignores a
constant bias, `r2_per_dim` averages over the dimensions that vary (sentence encoders have some that do
not), `nmse_token` gives all tokens the same weight. `explained_variance_legacy` is a mean of per-token
ratios about the mean of each batch, and so depends on the batches; it serves to compare with older
numbers. `relative_reconstruction_bias` is sum |yhat|^2 / sum <yhat, y>, below 1 for shrinkage. Means and
squared deviations are merged over batches by Chan's formula.

Source: Rajamanoharan et al. 2024, equation 10 (relative reconstruction bias).
"""

import jax.numpy as jnp
import numpy as np

from dictlearn.meters import Column, Reading, Subject, add
from dictlearn.ops.firing import l0
from dictlearn.types import Meter

NOTE = "Reconstruction is measured on {n_tokens:,.0f} held-out tokens."
COLUMNS = (
    Column("explained_variance", "EV", "explained variance, 1 − FVU", ".4f", 1, 1),
    Column("fvu", "FVU", "fraction of variance unexplained", ".4f", -1),
    Column("cossim", "cosine", "mean cosine of activation and reconstruction", ".4f", 1),
    Column("l0", "L0", "mean number of active latents on a token", ".1f", 0, 2),
)
_CONSTANT = 1e-12
"""A dimension with less than this share of the largest variance is rounding error."""


def measure(reading: Reading) -> dict:
    """Sums over the unmasked tokens of a batch; `_D` leaves are per dimension."""
    on = lambda a_BD: jnp.where(reading.mask_B[:, None], a_BD, 0).astype(jnp.float32)
    y, yhat = on(reading.y_BD), on(reading.yhat_BD)
    w = reading.mask_B.astype(jnp.float32)
    n = w.sum()
    error = y - yhat
    s, y2, yhat2 = ((a**2).sum(-1) for a in (error, y, yhat))
    dot = (y * yhat).sum(-1)
    y_mean_D, y_M2_D = _moments(y, w)
    e_mean_D, e_M2_D = _moments(error, w)
    v = ((y - y_mean_D) ** 2).sum(-1)
    total = lambda each: jnp.where(w > 0, w * each, 0.0).sum()
    return {
        "n": n,
        "s": total(s),
        "s_root": total(jnp.sqrt(s)),
        "s_over_y2": total(s / jnp.where(y2 > 0, y2, 1)),
        "y2": total(y2),
        "yhat2": total(yhat2),
        "dot": total(dot),
        "cossim": total(dot / jnp.maximum(jnp.sqrt(y2 * yhat2), 1e-20)),
        "l2_ratio": total(jnp.sqrt(yhat2) / jnp.where(y2 < 1e-8, 1.0, jnp.sqrt(y2))),
        "legacy": total(jnp.where(v > 0, 1 - s / jnp.where(v > 0, v, 1), 0)),
        "l0": total(l0(reading.codes)),
        "l1": total(jnp.abs(reading.codes.val).sum(-1)),
        "y_mean_D": y_mean_D,
        "y_M2_D": y_M2_D,
        "e_mean_D": e_mean_D,
        "e_M2_D": e_M2_D,
    }


def _moments(x, w):
    mean_D = (w[:, None] * x).sum(0) / jnp.maximum(w.sum(), 1)
    return mean_D, (w[:, None] * (x - mean_D) ** 2).sum(0)


def update(totals: dict, sums: dict) -> dict:
    """Adds the sums of a batch, and merges the two pairs of moments."""
    if not totals:
        return {name: np.asarray(value, np.float64) for name, value in sums.items()}
    sums = {name: np.asarray(value, np.float64) for name, value in sums.items()}
    merged = add(totals, sums)
    n = np.maximum(merged["n"], 1)
    for which in "ye":
        mean, M2 = f"{which}_mean_D", f"{which}_M2_D"
        step = sums[mean] - totals[mean]
        share = sums["n"] / n
        merged[mean] = totals[mean] + step * share
        merged[M2] = totals[M2] + sums[M2] + step**2 * totals["n"] * share
    return merged


def result(t: dict) -> dict:
    """The metrics, under their names in the literature; all floats."""
    if not t or t["n"] == 0:
        raise ValueError("no unmasked token was measured.")
    n, y_M2_D = t["n"], t["y_M2_D"]
    v, width = y_M2_D.sum(), len(y_M2_D)
    varies_D = y_M2_D > _CONSTANT * y_M2_D.max()
    fvu = t["s"] / v
    values = {
        "n_tokens": n,
        "explained_variance": 1 - fvu,
        "fvu": fvu,
        "mse": t["s"] / (n * width),
        "sse_per_token": t["s"] / n,
        "l2_loss": t["s_root"] / n,
        "nmse_token": t["s_over_y2"] / n,
        "nmse_global": t["s"] / t["y2"],
        "explained_variance_legacy": t["legacy"] / n,
        "fve_varratio": 1 - t["e_M2_D"].sum() / v,
        "r2_per_dim": 1
        - np.mean((t["e_M2_D"] + n * t["e_mean_D"] ** 2)[varies_D] / y_M2_D[varies_D]),
        "cossim": t["cossim"] / n,
        "l2_ratio": t["l2_ratio"] / n,
        "relative_reconstruction_bias": t["yhat2"] / t["dot"] if t["dot"] else float("nan"),
        "l0": t["l0"] / n,
        "l1": t["l1"] / n,
    }
    return {name: float(value) for name, value in values.items()}


def reconstruction(subject: Subject) -> Meter:
    """The meter of a dictionary. For several concatenated sources, its result also has
    `explained_variance_by_source`, a list."""
    n = subject.dictionary.sources

    def parted(t: dict) -> dict:
        error_D = t["e_M2_D"] + t["n"] * t["e_mean_D"] ** 2
        parts = (np.split(sums_D, n) for sums_D in (error_D, t["y_M2_D"]))
        explained = [1 - float(e.sum() / y.sum()) for e, y in zip(*parts, strict=True)]
        return {**result(t), "explained_variance_by_source": explained}

    return Meter(measure, dict, update, result if n == 1 else parted)
