"""Numbers of other libraries whose formulas are not ours, under their own keys: for comparison alone.

A library takes a mean over each batch, and then the mean of those, in which all batches weigh the same. So its
numbers depend on the size of the batches. With s = |y - yhat|^2, E over a batch and S = E|y|^2:

    saebench             mse = E s / (tokens of the batch)       relative_reconstruction_bias of each batch
                         explained_variance = 1 - E s / (S - (S / D)^2)
    dictionary_learning  l2_loss, l1_loss, l0, cossim, l2_ratio, frac_variance_explained (our `fve_varratio`)
                         and relative_reconstruction_bias, all of each batch

SAEBench's explained variance has the mean of y^2 in the place of the mean of y. It changes with the unit of
the activations, and can exceed 1.

Source: SAEBench at 8042bb3, `get_sparsity_and_variance_metrics`; dictionary_learning, `evaluate`.

Differs: SAEBench adds the mse over tokens, so that a batch with more tokens weighs more; means over tokens are
ours. A ratio is left out of the mean over its batch where a token is zero.
"""

from collections.abc import Mapping

from dictlearn.meters import add, ratio
from dictlearn.types import Meter


def with_compat(meter: Meter) -> Meter:
    """A meter of reconstruction whose result has `compat`, {library: {key: value}}, too."""

    def update(totals: dict, sums: dict) -> dict:
        batch = _of_batch(meter.update({}, sums))
        own = meter.update(totals.get("own", meter.init()), sums)
        means = add(totals["means"], batch) if totals else batch
        return {"own": own, "means": means}

    def result(totals: dict) -> dict:
        own = meter.result(totals.get("own", {}))
        return {**own, "compat": _values(totals["means"])}

    return Meter(meter.measure, dict, update, result)


def _of_batch(sums: Mapping) -> dict[str, float]:
    """Means over a batch; zeros for one without tokens, which no library has."""
    n = sums["n"]
    found = {
        "tokens": n,
        "width": len(sums["y_mean_D"]),
        "s": ratio(sums["s2"], n),
        "S": ratio(sums["y2"], n),
        "l2_loss": ratio(sums["s_root"], n),
        "l1_loss": ratio(sums["l1"], n),
        "l0": ratio(sums["l0"], n),
        "cossim": ratio(sums["cossim"], sums["n_not_zero"]),
        "l2_ratio": ratio(sums["l2_ratio"], sums["n_not_zero"]),
        "frac_variance_explained": 1 - ratio(sums["e_M2_D"].sum(), sums["y_M2_D"].sum()),
        "relative_reconstruction_bias": ratio(sums["yhat2"], sums["dot"]),
    }
    return {"batches": 1.0, **found} if n else dict.fromkeys(("batches", *found), 0.0)


def _values(totals: Mapping[str, float]) -> dict[str, dict[str, float]]:
    mean = {key: float(total / totals["batches"]) for key, total in totals.items()}
    spread = mean["S"] - (mean["S"] / mean["width"]) ** 2
    bias = "relative_reconstruction_bias"
    saebench = {
        "mse": mean["s"] / mean["tokens"],
        "explained_variance": 1 - ratio(mean["s"], spread),
        bias: mean[bias],
    }
    same = ("l2_loss", "l1_loss", "l0", "cossim", "l2_ratio", "frac_variance_explained", bias)
    return {"saebench": saebench, "dictionary_learning": {key: mean[key] for key in same}}
