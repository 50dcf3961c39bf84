"""Floating-point operations of a traced program: its matrix products, a multiply-add counted as two.

The compiler's own count takes the body of a loop once, so operations are counted before compilation. A scan
counts as often as its length, and a loop of unknown length once. A conditional counts as its most expensive
branch, and a choice by platform as the branch of that platform. Elementwise operations are not counted: a
product over an axis of length D has D times as many.
"""

import math
from typing import Any


def operations(jaxpr: Any, platform: str, n_devices: int = 1) -> float:
    """Counts the operations of all devices together.

    Args:
        jaxpr: as in `traced.jaxpr`.
        platform: the platform for which the program is lowered.
        n_devices: the number of devices; each runs the code that is written for one shard.

    Returns:
        The number of operations.
    """
    total = 0.0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name, params = equation.primitive.name, equation.params
        inner = lambda body, n=n_devices: operations(body, platform, n)
        if name == "dot_general":
            total += _product(equation)
        elif name == "scan":
            total += params["length"] * inner(params["jaxpr"])
        elif name == "while":
            total += inner(params["body_jaxpr"])
        elif name == "cond":
            total += _branch(params, platform, inner)
        elif "in_specs" in params:  # written for one shard
            total += n_devices * inner(params["jaxpr"], 1)
        else:
            total += sum(inner(body) for body in _bodies(params))
    return total


def _product(equation) -> float:
    """Two for each element of the result and each index of the axes summed over."""
    (summed, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return (
        2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in summed)
    )


def _branch(params, platform: str, inner) -> float:
    platforms = params.get("branches_platforms")
    if platforms is None:
        return max(inner(branch) for branch in params["branches"])
    chosen = next(i for i, names in enumerate(platforms) if names is None or platform in names)
    return inner(params["branches"][chosen])


def _bodies(params) -> list[Any]:
    """The programs inside an equation such as `jit`, a custom derivative, or a checkpoint."""
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    return [params[name] for name in names if hasattr(params.get(name), "eqns")][:1]
