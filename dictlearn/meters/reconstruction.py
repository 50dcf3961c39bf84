"""Reconstruction quality of the targets, in all conventions of the literature.

    fvu = sum s / sum v      explained_variance = 1 - fvu      mse = sum s / (T D)

with s = |y - yhat|^2 and v = |y - mean(y)|^2 about the mean over all tokens. `fve_varratio` ignores a
constant bias, `r2_per_dim` averages over the dimensions that vary (sentence encoders have some that do
not), `nmse_token` gives all tokens the same weight. `explained_variance_legacy` is a mean of per-token
ratios about the mean of each batch, and so depends on the batches; it serves to compare with older
numbers. `relative_reconstruction_bias` is sum |yhat|^2 / sum <yhat, y>, below 1 for shrinkage. Means and
squared deviations are merged over batches by Chan's formula. docs/meters.md has the key of each library's
number; formulas that only one library has are under `compat` (`_compat.py`).

A ratio is averaged over the tokens for which it is defined, that is, tokens that are not zero (or not at the
mean). A value that the data do not define is NaN, such as a share of the variance of tokens that are all equal.

Source: Rajamanoharan et al. 2024, equation 10 (relative reconstruction bias).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dictlearn.meters import Column, Reading, Subject, add, not_finite, ratio, refuse_not_finite
from dictlearn.meters._compat import with_compat
from dictlearn.ops.firing import l0
from dictlearn.ops.lengths import length, nonzero, unit_rows
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
    """Sums over the unmasked tokens of a batch; `_D` leaves are per dimension. Sums of squares are given as
    their roots, and moments about the first token, so that float32 holds them at any scale."""
    on = lambda a_BD: jnp.where(reading.mask_B[:, None], a_BD, 0).astype(jnp.float32)
    y, yhat = on(reading.y_BD), on(reading.yhat_BD)
    w = reading.mask_B.astype(jnp.float32)
    error = y - yhat
    about_mean, y_moments = _moments(y, w)
    s, y_B, yhat_B, v = (length(a, -1) for a in (error, y, yhat, about_mean))
    cosine_B = (unit_rows(y) * unit_rows(yhat)).sum(-1)
    total = lambda each: jnp.where(w > 0, each, 0.0).sum()
    over = lambda where_B, each: total(jnp.where(where_B, each, 0.0))
    roots = {
        "s_root2": length(w * s, 0),
        "y_root2": length(y_B, 0),
        "yhat_root2": length(yhat_B, 0),
    }
    shares_B = y_B / nonzero(roots["y_root2"]), yhat_B / nonzero(roots["yhat_root2"])
    return {
        "n": w.sum(),
        "n_not_finite": not_finite(reading),
        "n_not_zero": over(y_B > 0, 1.0),
        "n_off_mean": over(v > 0, 1.0),
        **roots,
        "dot_share": total(cosine_B * shares_B[0] * shares_B[1]),
        "s_root": total(s),
        "s_over_y2": over(y_B > 0, (s / nonzero(y_B)) ** 2),
        "cossim": total(cosine_B),
        "y_length": total(y_B),
        "yhat_length": total(yhat_B),
        "l2_ratio": over(y_B > 0, yhat_B / nonzero(y_B)),
        "legacy": over(v > 0, 1 - (s / nonzero(v)) ** 2),
        "l0": total(l0(reading.codes)),
        "l1": total(jnp.abs(reading.codes.val.astype(jnp.float32)).sum(-1)),
        "y": y_moments,
        "e": _moments(error, w)[1],
    }


def _moments(x, w) -> tuple[Array, dict[str, Array]]:
    """The rows about their mean, and the parts of mean and spread, which are combined in float64. Relative to
    the first row, equal rows are exactly zero, and a large mean costs no digits."""
    first_D = jnp.where((jnp.cumsum(w) == 1)[:, None] & (w > 0)[:, None], x, 0).sum(0)
    n = jnp.maximum(w.sum(), 1)
    moved = w[:, None] * (x - first_D)
    step_D = moved.sum(0) / n
    about = w[:, None] * (moved - step_D)
    rest_D = about.sum(0) / n
    parts = {"first_D": first_D, "step_D": step_D, "rest_D": rest_D, "spread_D": length(about, 0)}
    return w[:, None] * (about - rest_D), parts


def update(totals: dict, sums: dict) -> dict:
    """Adds the sums of a batch, and merges the two pairs of moments. Raises ValueError for tokens whose
    activations are not finite, with their number."""
    refuse_not_finite(sums["n_not_finite"])
    sums = _in_float64(sums)
    if not totals:
        return sums
    merged = add(totals, sums)
    n = np.maximum(merged["n"], 1)
    for which in "ye":
        mean, M2 = f"{which}_mean_D", f"{which}_M2_D"
        step = sums[mean] - totals[mean]
        share = sums["n"] / n
        merged[mean] = totals[mean] + step * share
        merged[M2] = totals[M2] + sums[M2] + step**2 * totals["n"] * share
    return merged


def _in_float64(sums: dict) -> dict:
    """The sums of a batch in a form that can be added: squares of the roots, means and squared deviations."""
    sums = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), sums)
    roots = {name: sums.pop(f"{name}_root2") for name in ("s", "y", "yhat")}
    squares = {f"{name}2": root**2 for name, root in roots.items()}
    found = {"dot": sums.pop("dot_share") * roots["y"] * roots["yhat"], **squares}
    for which in "ye":
        own = sums.pop(which)
        found[f"{which}_mean_D"] = own["first_D"] + own["step_D"] + own["rest_D"]
        about = own["spread_D"] ** 2 - sums["n"] * own["rest_D"] ** 2
        found[f"{which}_M2_D"] = np.maximum(about, 0)
    return sums | found


def result(t: dict) -> dict:
    """The metrics, under their names in the literature; all floats."""
    if not t or t["n"] == 0:
        raise ValueError("no unmasked token was measured.")
    n, y_M2_D = t["n"], t["y_M2_D"]
    v, width = y_M2_D.sum(), len(y_M2_D)
    varies_D = y_M2_D > _CONSTANT * y_M2_D.max()
    missed_D = (t["e_M2_D"] + n * t["e_mean_D"] ** 2)[varies_D] / y_M2_D[varies_D]
    fvu = ratio(t["s2"], v)
    values = {
        "n_tokens": n,
        "explained_variance": 1 - fvu,
        "fvu": fvu,
        "mse": t["s2"] / (n * width),
        "sse_per_token": t["s2"] / n,
        "l2_loss": t["s_root"] / n,
        "nmse_token": ratio(t["s_over_y2"], t["n_not_zero"]),
        "nmse_global": ratio(t["s2"], t["y2"]),
        "explained_variance_legacy": ratio(t["legacy"], t["n_off_mean"]),
        "fve_varratio": 1 - ratio(t["e_M2_D"].sum(), v),
        "r2_per_dim": 1 - ratio(missed_D.sum(), varies_D.sum()),
        "cossim": ratio(t["cossim"], t["n_not_zero"]),
        "l2_norm_in": t["y_length"] / n,
        "l2_norm_out": t["yhat_length"] / n,
        "l2_ratio": ratio(t["l2_ratio"], t["n_not_zero"]),
        "relative_reconstruction_bias": ratio(t["yhat2"], t["dot"]),
        "l0": t["l0"] / n,
        "l1": t["l1"] / n,
    }
    return {name: float(value) for name, value in values.items()}


def reconstruction(subject: Subject, *, compat: bool = False) -> Meter:
    """The meter of a dictionary. For several concatenated sources, its result also has
    `explained_variance_by_source`, a list. compat: whether it has the numbers of other libraries too."""
    n = subject.dictionary.sources

    def parted(t: dict) -> dict:
        error_D = t["e_M2_D"] + t["n"] * t["e_mean_D"] ** 2
        parts = (np.split(sums_D, n) for sums_D in (error_D, t["y_M2_D"]))
        explained = [1 - float(ratio(e.sum(), y.sum())) for e, y in zip(*parts, strict=True)]
        return {**result(t), "explained_variance_by_source": explained}

    meter = Meter(measure, dict, update, result if n == 1 else parted)
    return with_compat(meter) if compat else meter
