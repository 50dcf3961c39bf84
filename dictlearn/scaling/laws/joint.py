"""L(n, k), of latents and active latents: reducible error, and an irreducible error that depends on k.

Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", section 3.
"""

from dataclasses import replace

import numpy as np

from dictlearn.scaling.law import Inputs, Law, one, without


def _log_n(inputs: Inputs) -> np.ndarray:
    return np.log(inputs["n"])


def _log_k(inputs: Inputs) -> np.ndarray:
    return np.log(inputs["k"])


def _log_n_log_k(inputs: Inputs) -> np.ndarray:
    return np.log(inputs["n"]) * np.log(inputs["k"])


_OPENAI_GPT4 = {
    "alpha": -0.50,
    "beta_k": 0.26,
    "beta_n": -0.017,
    "gamma": -0.042,
    "zeta": -1.32,
    "eta": -0.085,
}
"""As published for TopK autoencoders on GPT-4's residual stream; k far below the width."""

_WHOLE = Law(
    name="joint",
    equation="L(n, k) = exp(alpha + beta_k ln k + beta_n ln n + gamma ln k ln n)"
    " + exp(zeta + eta ln k)",
    inputs=("n", "k"),
    terms=(
        {"alpha": one, "beta_k": _log_k, "beta_n": _log_n, "gamma": _log_n_log_k},
        {"zeta": one, "eta": _log_k},
    ),
    starts={
        "alpha": (-1.0, 0.0),
        "beta_k": (0.0, 0.3),
        "beta_n": (-0.1, 0.0),
        "gamma": (-0.05, 0.0),
        "zeta": (-2.0, -1.0),
        "eta": (-0.2, 0.0),
    },
    floor=("zeta", "eta"),
    fixed=("tokens",),
    example=_OPENAI_GPT4,
)

_NESTED = (
    without(
        _WHOLE,
        {"gamma"},
        "no interaction",
        "L(n, k) = exp(alpha + beta_k ln k + beta_n ln n) + exp(zeta + eta ln k)",
    ),
    without(
        _WHOLE,
        {"eta"},
        "constant floor",
        "L(n, k) = exp(alpha + beta_k ln k + beta_n ln n + gamma ln k ln n) + exp(zeta)",
    ),
    without(
        _WHOLE,
        {"zeta", "eta"},
        "no floor",
        "L(n, k) = exp(alpha + beta_k ln k + beta_n ln n + gamma ln k ln n)",
    ),
    without(
        _WHOLE,
        {"gamma", "zeta", "eta"},
        "power",
        "L(n, k) = exp(alpha + beta_k ln k + beta_n ln n)",
    ),
)
"""From the most to the fewest parameters."""

joint = replace(_WHOLE, nested=_NESTED)
