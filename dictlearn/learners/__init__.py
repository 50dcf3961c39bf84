"""Learners: dictionary-learning algorithms as folds over a stream, one file each.

A file holds a function of its own name. One that trains, `name(dictionary, ..., *, ...) -> Learner`, takes
first what it is built of: of `dictionary`, `objective`, `rule` and `start` those that it reads. One that wraps,
`name(inner, ...) -> Learner`, changes another. Keyword-only arguments are settings; those annotated `Scalar`
may be traced. A file that says `READS_KEYS = True` gets batches that carry where their tokens came from; no
other stream pays for that.

A learner's State has a field `variables`, the dictionary's own as training has them; a wrapper's State has a
field `inner` and hands them on. Info says by `finite` whether the step may be taken.
"""

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


def names() -> list[str]:
    """The learners there are: the files of this folder, without those that wrap another."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    files = sorted(name for name in found if not name.startswith("_"))
    return [name for name in files if "inner" not in _parameters(getattr(_module(name), name))]


def factory(name: str) -> Callable[..., Learner]:
    """The function that makes the learner `name`.

    Raises ValueError for an unknown learner, listing what there is."""
    if name not in names():
        raise ValueError(f"unknown learner {name!r}; there are {', '.join(names())}.")
    return getattr(_module(name), name)


def reads(name: str) -> set[str]:
    """What the learner `name` is built of: some of dictionary, objective, rule and start."""
    arguments = _parameters(factory(name)).values()
    return {one.name for one in arguments if one.kind is not one.KEYWORD_ONLY}


def reads_keys(name: str) -> bool:
    """Whether the learner `name` reads the keys of a batch's tokens."""
    return getattr(_module(name), "READS_KEYS", False)


def functions(name: str) -> list[Callable]:
    """Those whose keyword-only arguments are the settings of the learner `name`."""
    return [factory(name), *([start] if "start" in reads(name) else []), wrapped]


def make(name: str, *, built: dict[str, Any], **settings) -> Learner:
    """The learner `name` of what was `built` for it, in its wrappers.

    Example: `make("gradient", built={"dictionary": ..., "objective": ..., "rule": ...}, ema_decay=0.999)`."""
    own = lambda function: {k: v for k, v in settings.items() if k in _parameters(function)}
    built = {part: value for part, value in built.items() if part in reads(name)}
    if "start" in reads(name):
        built["start"] = start(**own(start))
    return wrapped(factory(name)(**built, **own(factory(name))), **own(wrapped))


def wrapped(inner: Learner, *, ema_decay: float | None = None, max_skipped: int = 10) -> Learner:
    """`inner` as an experiment runs it.

    ema_decay: `variables` give the exponential mean of the parameters (ema.py); None for no mean. max_skipped:
    steps that may be skipped as their loss or gradient is not finite; one more ends the run."""
    mean = inner if ema_decay is None else ema(inner, ema_decay)
    return skip_nonfinite(mean, max_skipped)


def with_variables(state: Any, variables: dict) -> Any:
    """A learner's state before its first update, with other variables, in whatever it is wrapped."""
    if "inner" in state._fields:
        return state._replace(inner=with_variables(state.inner, variables))
    return begun_at(state._replace(variables=variables), variables["params"])


def _parameters(function: Callable):
    return inspect.signature(function).parameters


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
