"""Learners: dictionary-learning algorithms as folds over a stream, one file each.

A file holds a function of its own name. A learner that trains, `name(dictionary, ..., *, ...) ->
Learner`, first takes the parts that it is built from: the ones it needs of `dictionary`, `objective`,
`rule` and `start`. A learner that wraps another, `name(inner, ...) -> Learner`, changes `inner`.
Keyword-only arguments are settings; settings annotated `Scalar` may be traced. A file with `READS_KEYS =
True` receives batches with the keys of their tokens; other streams do not compute keys.

The State of a learner has a field `variables`, the dictionary's variables in training; the State of a
wrapper has a field `inner` and passes its variables on. Info has `finite`, which says whether the step
may be taken.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

from dictlearn.learners._start import start as start
from dictlearn.learners.ema import ema
from dictlearn.learners.skip_nonfinite import skip_nonfinite
from dictlearn.rules import begun_at
from dictlearn.types import Learner

__all__ = ["make", "names", "start"]


def names() -> list[str]:
    """The names of all learners: the files of this folder, without the learners that wrap another.

    Returns:
        The names in alphabetical order.

    Example:
        >>> names()
        ['gradient', 'itda']
    """
    return list(_files())


@functools.cache
def _files() -> tuple[str, ...]:
    """The folder is listed once: names are asked for at every use of a learner."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    files = sorted(name for name in found if not name.startswith("_"))
    return tuple(name for name in files if "inner" not in _parameters(getattr(_module(name), name)))


def factory(name: str) -> Callable[..., Learner]:
    """The function that makes the learner `name`.

    Raises ValueError for an unknown learner; the message lists the known ones.
    """
    if name not in names():
        raise ValueError(f"unknown learner {name!r}; the learners are {', '.join(names())}.")
    return getattr(_module(name), name)


def reads(name: str) -> set[str]:
    """The parts that the learner `name` is built from: some of dictionary, objective, rule and start."""
    arguments = _parameters(factory(name)).values()
    return {one.name for one in arguments if one.kind is not one.KEYWORD_ONLY}


def reads_keys(name: str) -> bool:
    """Whether the learner `name` reads the keys of a batch's tokens."""
    return getattr(_module(name), "READS_KEYS", False)


def functions(name: str) -> list[Callable]:
    """The functions whose keyword-only arguments are the settings of the learner `name`."""
    return [factory(name), *([start] if "start" in reads(name) else []), wrapped]


def make(name: str, *, built: dict[str, Any], **settings) -> Learner:
    """The learner `name`, in the wrappers of an experiment.

    Args:
        name: a learner, of `names()`.
        built: {part: value}, with at least the parts that the learner reads (see `reads`).
        settings: settings of the learner, of `start` and of `wrapped`.

    Returns:
        A Learner.

    Raises:
        ValueError: for an unknown learner.

    Example:
        >>> import optax
        >>> from dictlearn import dictionaries, objectives
        >>> parts = {
        ...     "dictionary": dictionaries.make("topk", d_in=4, n_latents=16, k=2),
        ...     "objective": objectives.make("fvu"),
        ...     "rule": optax.adam(1e-3),
        ... }
        >>> type(make("gradient", built=parts, ema_decay=0.999)).__name__
        'Learner'
    """
    own = lambda function: {k: v for k, v in settings.items() if k in _parameters(function)}
    built = {part: value for part, value in built.items() if part in reads(name)}
    if "start" in reads(name):
        built["start"] = start(**own(start))
    return wrapped(factory(name)(**built, **own(factory(name))), **own(wrapped))


def wrapped(inner: Learner, *, ema_decay: float | None = None, max_skipped: int = 10) -> Learner:
    """`inner` with the wrappers of an experiment.

    ema_decay: with a decay, `variables` returns the exponential moving average of the parameters
    (ema.py); None for no average. max_skipped: the number of steps that may be skipped because their loss
    or gradient is not finite; one more ends the run.
    """
    mean = inner if ema_decay is None else ema(inner, ema_decay)
    return skip_nonfinite(mean, max_skipped)


def with_variables(state: Any, variables: dict) -> Any:
    """The state of a learner before its first update with other variables, through all its wrappers."""
    if "inner" in state._fields:
        return state._replace(inner=with_variables(state.inner, variables))
    return begun_at(state._replace(variables=variables), variables["params"])


def _parameters(function: Callable):
    return inspect.signature(function).parameters


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
