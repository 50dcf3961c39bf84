"""Rules: whatever moves a parameter. Each is an `optax.GradientTransformationExtraArgs`, one file each.

A file states its `KIND`. An optimiser trains alone, as `config.rule`. A projection is chained with an optimiser
and keeps parameters or gradients in a set. A wrapper, `config.revive`, takes another rule as `inner` and
changes its inputs or its updates.

`update(updates, state, params, firing=Firing, batch=Batch, error_B=...)` may read how often latents fired, the
batch and each token's squared error. `make` finds the file by the rule's name.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType

import optax

from dictlearn.rules._optax import OPTIMISERS, named
from dictlearn.rules._points import begun_at as begun_at
from dictlearn.rules._points import evaluated as evaluated
from dictlearn.rules._schedules import FALLS

__all__ = ["make", "names", "schedules"]

KINDS = ("optimiser", "projection", "wrapper")


def names(kind: str = "optimiser") -> list[str]:
    """The names of the rules of one kind: the files of this folder with that `KIND`, and the optimisers of
    optax.

    Args:
        kind: "optimiser", "projection" or "wrapper".

    Returns:
        The names in alphabetical order.

    Example:
        >>> {"adam", "muon"} <= set(names()), "resample" in names("wrapper")
        (True, True)
    """
    found = [name for name in _files() if kind == _module(name).KIND]
    return sorted([*found, *OPTIMISERS]) if kind == "optimiser" else found


def schedules() -> list[str]:
    """The names of the schedules of a learning rate.

    Returns:
        The names, for the argument `schedule` of an optimiser.

    Example:
        >>> "linear" in schedules()
        True
    """
    return list(FALLS)


def factory(name: str) -> Callable[..., optax.GradientTransformation]:
    """The function that makes the rule `name`, of any kind.

    Raises ValueError for an unknown rule; the message lists the known ones.
    """
    if name in OPTIMISERS:
        return named(name)
    if name not in _files():
        there = sorted([*_files(), *OPTIMISERS])
        raise ValueError(f"unknown rule {name!r}; there are {', '.join(there)}.")
    return getattr(_module(name), name)


def make(name: str, **arguments) -> optax.GradientTransformationExtraArgs:
    """The rule `name` with these arguments.

    Args:
        name: a rule, of `names()` of any kind.
        arguments: its arguments.

    Returns:
        An optax transformation whose `update` also takes `firing`, `batch` and `error_B`.

    Raises:
        ValueError: for an unknown rule or argument; the message lists the known ones.

    Example:
        >>> import jax.numpy as jnp
        >>> rule = make("adam", lr=1e-3, steps=100)
        >>> params = {"W_dec_FD": jnp.eye(4)}
        >>> updates, state = rule.update(params, rule.init(params), params)
        >>> updates["W_dec_FD"].shape
        (4, 4)
    """
    known = inspect.signature(factory(name)).parameters
    for key in arguments:
        if key not in known:
            raise ValueError(f"rule {name!r} has no {key!r}; it has {', '.join(known)}.")
    return optax.with_extra_args_support(factory(name)(**arguments))


@functools.cache
def _files() -> tuple[str, ...]:
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
