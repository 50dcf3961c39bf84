"""The best width for each compute without a law: parabolas through runs of equal compute.

For each product n T of latents and tokens, the logarithm of the loss is a parabola in ln n. The n at its
minimum is the best one, and a line through ln n against ln (n T) gives its exponent in the compute.

Source: Hoffmann et al. 2022, "Training compute-optimal large language models", section 3.2 (approach 2).
Differs: the line weighs every minimum equally.
"""

from typing import Any

import numpy as np

from dictlearn.scaling.law import Inputs

SIZES = 4
"""A parabola through three points has no residual; fewer distinct widths than this give no minimum."""

_DIGITS = 6  # of ln (n T): products that agree to a millionth are equal


def isoflop(inputs: Inputs, losses_R: Any) -> dict:
    """The minima of the loss along lines of equal compute, and their exponents in the compute.

    Args:
        inputs: "n" and "tokens" of each run.
        losses_R: the losses.

    Returns:
        {"minima": [{"n_times_tokens", "n_latents", "tokens"}], "best_n_exponent", "best_tokens_exponent"}; the
        exponents are None for fewer than two minima. A line of fewer than four widths, and one whose lowest
        loss is at its end, has no minimum.
    """
    log_n_R, log_t_R = (np.log(np.asarray(inputs[name], np.float64)) for name in ("n", "tokens"))
    log_c_R, minima = np.round(log_n_R + log_t_R, _DIGITS), []
    for log_c in np.unique(log_c_R):
        of_line_R = log_c_R == log_c
        log_n = _lowest(log_n_R[of_line_R], np.log(np.asarray(losses_R))[of_line_R])
        if log_n is not None:
            minima.append((float(log_c), log_n))
    log_cs, log_ns = ([one[at] for one in minima] for at in (0, 1))
    slope = float(np.polyfit(log_cs, log_ns, 1)[0]) if len(minima) > 1 else None
    return {
        "minima": [
            {
                "n_times_tokens": float(np.exp(log_c)),
                "n_latents": float(np.exp(log_n)),
                "tokens": float(np.exp(log_c - log_n)),
            }
            for log_c, log_n in minima
        ],
        "best_n_exponent": slope,
        "best_tokens_exponent": None if slope is None else 1 - slope,
    }


def _lowest(log_n_R: np.ndarray, log_losses_R: np.ndarray) -> float | None:
    """The ln n at which the parabola is lowest; None if it is not between the smallest and the largest n."""
    if np.unique(log_n_R).size < SIZES:
        return None
    middle = log_n_R.mean()
    square, slope, _ = np.polyfit(log_n_R - middle, log_losses_R, 2)
    if square <= 0:
        return None
    lowest = float(middle - slope / (2 * square))
    return lowest if log_n_R.min() < lowest < log_n_R.max() else None
