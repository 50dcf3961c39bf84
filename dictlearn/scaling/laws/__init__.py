"""Scaling laws, one file each, found by name.

A law is a `law.Law` of its file's name: `laws/joint.py` holds `joint`. It says which inputs it reads from a
run, which parameter multiplies which feature in which term, and which simpler laws it contains. Fitting, its
intervals, held-out cells, figures and `dictlearn fit --law=NAME` follow from that.

    joint         L(n, k)   latents and active latents
    latents       L(n)      latents, at one k
    sparsity      L(k)      active latents, at one n
    tokens        L(T)      tokens of training, at one n and k
    training      L(n, T)   latents and tokens, at one k, with the exponents of the best of each in compute
    convergence   L(n, T)   the same, with the exponent of the tokens that a width needs
    compute       L(C)      training FLOPs, at one k, over the runs that no cheaper run beats
"""

import importlib
import pkgutil

from dictlearn.scaling.law import Law

__all__ = ["make", "names"]

DEFAULT = "joint"
"""The law of a fit that names none."""


def names() -> list[str]:
    """The names of all laws.

    Returns:
        The names in alphabetical order.

    Example:
        >>> {"joint", "latents", "sparsity"} <= set(names())
        True
    """
    return sorted(one.name for one in pkgutil.iter_modules(__path__) if one.name[0] != "_")


def make(name: str) -> Law:
    """A law by its name.

    Args:
        name: a law, of `names()`.

    Returns:
        A Law.

    Raises:
        ValueError: for an unknown law; the message lists the known ones.

    Example:
        >>> make("latents").inputs
        ('n',)
    """
    if name not in names():
        raise ValueError(f"unknown law {name!r}; the laws are {', '.join(names())}.")
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)
