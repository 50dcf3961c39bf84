"""What a scaling law is: a trained dictionary's loss as a function of size, sparsity, tokens or compute.

Every law of `laws/` is a sum of exponentials whose exponents are linear in the parameters,

    L(inputs) = sum over terms t of exp( sum over parameters p of  theta_p * feature_tp(inputs) ),

so its logarithm is one logaddexp, its gradient is known, and no parameter needs a bound. A law is
data: which parameter multiplies which feature in which term. Losses are normalised mean squared
errors (0 perfect, 1 the mean's) and logarithms are natural.

Axes: R runs, P parameters, E exponential terms, A bootstrap samples. Everything is float64.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

Inputs: TypeAlias = Mapping[str, Any]
"""The inputs of a law: {"n": [R], "k": [R]} or {"compute": [R]}, positive numbers (`inputs.INPUTS`)."""

Feature: TypeAlias = Callable[[Inputs], np.ndarray]

Derived: TypeAlias = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Law:
    """A sum of exponentials: each term maps a parameter's name to the feature that it multiplies.

    starts: the names of the parameters in order, with the starting values of each. Their product is the grid of
        starts of a fit: 64 points, halved for each parameter that a nested law drops.
    floor: the parameters of the irreducible error, which the first input does not lower; () if there is none.
    fixed: inputs that all runs of one fit must share.
    frontier: whether only runs count that no run of at most the same first input beats.
    nested: the laws that this one contains, which are compared with it on held-out cells.
    derived: numbers that follow from the parameters, as functions of {parameter: value}.
    beside: results that need no parameters, as functions of (inputs, losses) that return JSON.
    example: parameters of a curve, published where there is one; the conformance suite plants them.
    """

    name: str
    equation: str
    inputs: tuple[str, ...]
    terms: tuple[dict[str, Feature], ...]
    starts: dict[str, tuple[float, ...]]
    floor: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    frontier: bool = False
    nested: tuple["Law", ...] = ()
    derived: Mapping[str, Derived] = field(default_factory=dict)
    beside: Mapping[str, Callable[[Inputs, np.ndarray], dict]] = field(default_factory=dict)
    example: Mapping[str, float] = field(default_factory=dict)

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
        law,
        name=name,
        equation=equation,
        terms=tuple(t for t in terms if t),
        starts=starts,
        floor=tuple(p for p in law.floor if p not in dropped),
        nested=(),
        derived={},
        beside={},
    )


def power_law(name: str, symbol: str, of: str, example: Mapping[str, float], **more: Any) -> Law:
    """A power law with a constant in one input: c + a x^-b.

    Args:
        name: the law's name.
        symbol: the input in the equation.
        of: the input.
        example: parameters of a curve.
        more: other fields of the Law.

    Returns:
        A Law with the parameters log_floor, log_scale and exponent, which contains the law without a floor.
    """
    falling = f"exp(log_scale) {symbol}^-exponent"
    whole = Law(
        name=name,
        equation=f"L({symbol}) = exp(log_floor) + {falling}",
        inputs=(of,),
        terms=({"log_floor": one}, {"log_scale": one, "exponent": lambda x: -np.log(x[of])}),
        starts={
            "log_floor": (-4.0, -3.0, -2.0, -1.0),
            "log_scale": (-3.0, 0.0, 3.0, 6.0),
            "exponent": (0.05, 0.1, 0.3, 0.6),
        },
        floor=("log_floor",),
        example=example,
        **more,
    )
    bare = without(whole, {"log_floor"}, "no floor", f"L({symbol}) = {falling}")
    return replace(whole, nested=(bare,))


def one(inputs: Inputs) -> np.ndarray:
    """The feature of a level: 1 for every run.

    Args:
        inputs: the inputs of the runs.

    Returns:
        [R].
    """
    return np.ones_like(next(iter(inputs.values())))
