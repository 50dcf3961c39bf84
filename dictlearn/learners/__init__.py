"""Learners: dictionary-learning algorithms as folds over a stream, one file each.

A file holds a function of its own name, `name(dictionary, ..., *, ...) -> Learner`. Its first arguments are
factories, called with `hparams` under the trace: of `dictionary`, `objective` and `rule` those that it reads.
Its keyword-only arguments are its settings; those annotated `Scalar` may be traced. A file that says
`READS_KEYS = True` gets batches that carry where their tokens came from; no other stream pays for that.
"""

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType

from dictlearn.types import Learner


def names() -> list[str]:
    """The learners there are: the files of this folder."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def factory(name: str) -> Callable[..., Learner]:
    """The function that makes the learner `name`.

    Raises ValueError for an unknown learner, listing what there is."""
    return getattr(_module(name), name)


def reads_keys(name: str) -> bool:
    """Whether the learner `name` reads the keys of a batch's tokens."""
    return getattr(_module(name), "READS_KEYS", False)


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"unknown learner {name!r}; there are {', '.join(names())}.")
    return importlib.import_module(f"{__name__}.{name}")
