"""Rules: whatever moves a parameter. Each is an `optax.GradientTransformationExtraArgs`, one file each.

`update(updates, state, params, firing=Firing, batch=Batch, error_B=...)` may read how often latents fired, the
batch and each token's squared error; rules compose with `optax.chain`, and those whose first argument is
`inner` wrap another rule. `make` finds the file by the rule's name.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable

import optax


def names() -> list[str]:
    """The rules that stand alone: the files of this folder, without the wrappers."""
    return [name for name in _files() if "inner" not in _parameters(name)]


def wrappers() -> list[str]:
    """The rules that wrap another: the files whose function takes it as `inner`."""
    return [name for name in _files() if "inner" in _parameters(name)]


def factory(name: str) -> Callable[..., optax.GradientTransformation]:
    """The function that makes the rule `name`, alone or a wrapper.

    Raises ValueError for an unknown rule, listing what there is."""
    if name not in _files():
        raise ValueError(f"unknown rule {name!r}; there are {', '.join(_files())}.")
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)


def make(name: str, **arguments) -> optax.GradientTransformationExtraArgs:
    """The rule `name` with these arguments.

    Raises ValueError for an unknown rule or argument, listing what there is."""
    known = _parameters(name)
    for key in arguments:
        if key not in known:
            raise ValueError(f"rule {name!r} has no {key!r}; it has {', '.join(known)}.")
    return optax.with_extra_args_support(factory(name)(**arguments))


def _files() -> list[str]:
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def _parameters(name: str):
    return inspect.signature(factory(name)).parameters
