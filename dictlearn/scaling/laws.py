"""Scaling laws: a trained dictionary's loss as a function of size, of sparsity, or of compute.

Every law here is a sum of exponentials whose exponents are linear in the parameters,

    L(inputs) = sum over terms t of exp( sum over parameters p of  theta_p * feature_tp(inputs) ),

so its logarithm is one logaddexp, its gradient is known, and no parameter needs a bound. A law is
data: which parameter multiplies which feature in which term. Losses are normalised mean squared
errors (0 perfect, 1 the mean's) and logarithms are natural.

Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", section 3 (the joint law in
latents n and active latents k, and the law in compute).

Axes: R runs, P parameters, E exponential terms, A bootstrap samples. Everything is float64.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

Inputs: TypeAlias = Mapping[str, Any]
"""The inputs of a law: {"n": [R], "k": [R]} or {"compute": [R]}, positive numbers."""

Feature: TypeAlias = Callable[[Inputs], np.ndarray]


@dataclass(frozen=True)
class Law:
    """A sum of exponentials: each term maps a parameter's name to the feature that it multiplies.

    `starts` names the parameters in order, with the starting values of each. Their product is the grid of
    starts of a fit: 64 points, halved for each parameter that a nested law drops.
    """

    name: str
    equation: str
    inputs: tuple[str, ...]
    terms: tuple[dict[str, Feature], ...]
    starts: dict[str, tuple[float, ...]]

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(self.starts)


def features(law: Law, inputs: Inputs) -> np.ndarray:
    """The feature that each parameter multiplies in each term's exponent.

    Args:
        law: the law.
        inputs: the inputs of the runs.

    Returns:
        [E, R, P], 0 where a term does not have the parameter.
    """
    arrays = {name: np.asarray(inputs[name], np.float64) for name in law.inputs}
    n_runs = arrays[law.inputs[0]].size
    table_ERP = np.zeros((len(law.terms), n_runs, len(law.parameters)))
    for e, term in enumerate(law.terms):
        for name, feature in term.items():
            table_ERP[e, :, law.parameters.index(name)] = feature(arrays)
    return table_ERP


def log_loss(law: Law, theta_P: Any, inputs: Inputs) -> np.ndarray:
    """The logarithm of the predicted loss.

    Args:
        law: the law.
        theta_P: parameters [..., P].
        inputs: the inputs of the runs.

    Returns:
        [..., R].
    """
    return log_terms(law, theta_P, inputs, law.parameters)


def log_terms(law: Law, theta_P: Any, inputs: Inputs, names: tuple[str, ...]) -> np.ndarray:
    """The logarithm of the sum of the terms that have a parameter of `names`.

    Args:
        law, theta_P, inputs: as in `log_loss`.
        names: names of parameters.

    Returns:
        [..., R].
    """
    theta_P = np.asarray(theta_P, np.float64)
    chosen = [e for e, term in enumerate(law.terms) if not term.keys().isdisjoint(names)]
    exponent_ER = np.einsum("erp,...p->...er", features(law, inputs)[chosen], theta_P)
    return np.logaddexp.reduce(exponent_ER, axis=-2)


def start_grid(law: Law) -> np.ndarray:
    """Every combination of the law's starting values.

    Args:
        law: the law.

    Returns:
        [starts, P].
    """
    return np.array(list(itertools.product(*law.starts.values())), np.float64)


def without(law: Law, dropped: set[str], name: str, equation: str) -> Law:
    """The nested law without some parameters; a term without parameters disappears.

    Args:
        law: the law.
        dropped: the parameters to drop.
        name, equation: the name and the equation of the nested law.

    Returns:
        A Law.
    """
    terms = [{p: f for p, f in term.items() if p not in dropped} for term in law.terms]
    starts = {p: values for p, values in law.starts.items() if p not in dropped}
    return replace(
        law, name=name, equation=equation, terms=tuple(t for t in terms if t), starts=starts
    )


def _one(inputs: Inputs) -> np.ndarray:
    return np.ones_like(next(iter(inputs.values())))


def _log_n(inputs: Inputs) -> np.ndarray:
    return np.log(inputs["n"])


def _log_k(inputs: Inputs) -> np.ndarray:
    return np.log(inputs["k"])


def _log_n_log_k(inputs: Inputs) -> np.ndarray:
    return np.log(inputs["n"]) * np.log(inputs["k"])


def _minus_log_compute(inputs: Inputs) -> np.ndarray:
    return -np.log(inputs["compute"])


JOINT = Law(
    name="joint",
    equation="L(n, k) = exp(alpha + beta_k ln k + beta_n ln n + gamma ln k ln n)"
    " + exp(zeta + eta ln k)",
    inputs=("n", "k"),
    terms=(
        {"alpha": _one, "beta_k": _log_k, "beta_n": _log_n, "gamma": _log_n_log_k},
        {"zeta": _one, "eta": _log_k},
    ),
    starts={
        "alpha": (-1.0, 0.0),
        "beta_k": (0.0, 0.3),
        "beta_n": (-0.1, 0.0),
        "gamma": (-0.05, 0.0),
        "zeta": (-2.0, -1.0),
        "eta": (-0.2, 0.0),
    },
)
"""Latents and active latents: reducible error, and an irreducible error that depends on k."""

NO_INTERACTION = without(
    JOINT,
    {"gamma"},
    "no interaction",
    "L(n, k) = exp(alpha + beta_k ln k + beta_n ln n) + exp(zeta + eta ln k)",
)

CONSTANT_FLOOR = without(
    JOINT,
    {"eta"},
    "constant floor",
    "L(n, k) = exp(alpha + beta_k ln k + beta_n ln n + gamma ln k ln n) + exp(zeta)",
)

NO_FLOOR = without(
    JOINT,
    {"zeta", "eta"},
    "no floor",
    "L(n, k) = exp(alpha + beta_k ln k + beta_n ln n + gamma ln k ln n)",
)

POWER = without(
    JOINT,
    {"gamma", "zeta", "eta"},
    "power",
    "L(n, k) = exp(alpha + beta_k ln k + beta_n ln n)",
)

NESTED = (JOINT, NO_INTERACTION, CONSTANT_FLOOR, NO_FLOOR, POWER)
"""The joint law and the laws that it contains, from the most to the fewest parameters."""

COMPUTE = Law(
    name="compute",
    equation="L(C) = exp(log_floor) + exp(log_scale) C^-exponent",
    inputs=("compute",),
    terms=({"log_floor": _one}, {"log_scale": _one, "exponent": _minus_log_compute}),
    starts={
        "log_floor": (-4.0, -3.0, -2.0, -1.0),
        "log_scale": (-4.0, -3.0, -2.0, -1.0),
        "exponent": (0.05, 0.1, 0.3, 0.6),
    },
)
"""A power law with a constant in one variable, in any unit of compute: c + a C^-b."""

OPENAI_GPT4 = {
    "alpha": -0.50,
    "beta_k": 0.26,
    "beta_n": -0.017,
    "gamma": -0.042,
    "zeta": -1.32,
    "eta": -0.085,
}
"""`JOINT` as published for TopK autoencoders on GPT-4's residual stream; k far below the width."""

OPENAI_GPT4_COMPUTE = {
    "log_floor": float(np.log(0.09)),
    "log_scale": float(np.log(0.056)),
    "exponent": 0.084,
}
"""`COMPUTE` as published for GPT-4: compute as a fraction of GPT-4's pre-training, k fixed."""
