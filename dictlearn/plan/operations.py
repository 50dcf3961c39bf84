"""Floating-point operations of a traced program: its matrix products, a multiplication and an addition
counted as two, each as often as it runs.

The compiler's own count takes the body of a loop once, so this reads the program before it is compiled. A
scan counts as often as its length, a loop of unknown length once, a branch as the most expensive one, and
a choice by platform as the branch of the platform. Elementwise work is not counted: a product of rank D
has D times as much.
"""

import math
from typing import Any


def operations(jaxpr: Any, platform: str, n_devices: int = 1) -> float:
    """Of all devices together. jaxpr: as `traced.jaxpr` gives it. n_devices: in the mesh, each of which runs
    what is written for one shard."""
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
    """2 for every element of the result and place of the axes summed over."""
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
    """The program of an equation that calls one: `jit`, a custom derivative, a checkpoint."""
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    return [params[name] for name in names if hasattr(params.get(name), "eqns")][:1]
