"""Dictionaries: Linen modules with the interface `types.Dictionary`. `make` finds them by name.

Most of them combine two independent choices. The structure says how the latents are decoded (one a file of this
folder); the activation says which latents fire (one a file of `_activations/`). A structure takes any
`activation`; the name of an activation is the name of the linear SAE or transcoder with that activation.

    make("topk", d_in=64, n_latents=512, k=8)
    make("matryoshka", activation="jumprelu", d_in=64, n_latents=512, sparsity=1e-3)

Hyperparameters are given flat. Fields annotated `Scalar` do not affect a shape and may be traced, so a
sweep over them is one program; all others are static. A field `NAME_max` is the upper bound of a traced
field `NAME`.
"""

import dataclasses
import functools
import importlib
import pkgutil
from types import MappingProxyType
from typing import cast

from dictlearn.dictionaries import _activations
from dictlearn.dictionaries._linear import Linear
from dictlearn.types import Dictionary

__all__ = ["activations", "describe", "fields", "make", "names"]

_OWN = ("parent", "name")
"""Fields of every Linen module."""


def names() -> list[str]:
    """The names of all dictionaries: the structures, and each activation in the linear structure.

    Returns:
        The names in alphabetical order.

    Example:
        >>> "topk" in names(), "matryoshka" in names()
        (True, True)
    """
    return sorted([*_structures(), *_activations.names()])


@functools.cache
def _structures() -> tuple[str, ...]:
    """The folder is listed once: names are asked for at every use of a dictionary."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(name for name in found if not name.startswith("_"))


def variant(name: str) -> type[Dictionary]:
    """The structure of the dictionary `name`: the one class with the interface that its file defines.

    Raises ValueError for an unknown name, and for a file that does not define exactly one dictionary.
    """
    if name not in names():
        raise ValueError(f"unknown dictionary {name!r}; the dictionaries are {', '.join(names())}.")
    if name in _activations.names():
        return Linear
    module = importlib.import_module(f"{__name__}.{name}")
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Dictionary)
        and value.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise ValueError(
            f"dictionaries/{name}.py defines {len(classes)} dictionaries; it must define 1."
        )
    return classes[0]


def activations(name: str) -> list[str]:
    """The activations that a dictionary may have.

    Args:
        name: the name of a dictionary.

    Returns:
        The names of its activations, the default first; an empty list where it has no such choice.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> activations("matryoshka")[0], activations("csr"), activations("mp")
        ('batch_topk', ['topk'], [])
    """
    structure = variant(name)
    if name in _activations.names():
        return [name]
    if not issubclass(structure, Linear):
        return []
    taken = structure.takes or _activations.names()
    return sorted(taken, key=lambda each: (each != structure.default, each))


def parts(name: str, activation: str | None = None) -> list[type]:
    """The classes whose fields are the hyperparameters of a dictionary: its structure and, where there is a
    choice, its activation (the structure's default for None).

    Raises ValueError for an activation that the structure does not take, with the reason.
    """
    structure = variant(name)
    return [structure, _chosen(name, activation)] if activations(name) else [structure]


def fields(name: str, activation: str | None = None) -> MappingProxyType:
    """The hyperparameters of a dictionary.

    Args:
        name: the name of a dictionary.
        activation: the name of its activation; None for the structure's default.

    Returns:
        {name: dataclass field}, of the structure and of the activation.

    Raises:
        ValueError: for an unknown name, and for an activation that the structure does not take.

    Example:
        >>> "multi" in fields("topk"), "multi" in fields("relu")
        (True, False)
    """
    inner_first = reversed(parts(name, activation))
    return MappingProxyType({k: v for part in inner_first for k, v in _fields(part).items()})


def make(name: str, *, activation: str | None = None, **hyperparameters) -> Dictionary:
    """Makes the dictionary `name` with these hyperparameters.

    Args:
        name: a structure, or an activation in the linear structure.
        activation: the name of the activation; None for the structure's default.
        hyperparameters: fields of the structure and of the activation; see `fields`.

    Returns:
        A frozen Linen module without parameters: `init` makes the parameters.

    Raises:
        ValueError: for an unknown dictionary, activation or field; the message lists the known ones.

    Example:
        >>> make("topk", d_in=64, n_latents=512, k=8).n_latents
        512
        >>> type(make("matryoshka", activation="jumprelu", d_in=64, n_latents=512)).__name__
        'Matryoshka'
    """
    known, structure = fields(name, activation), variant(name)
    given = hyperparameters if activation is None else {**hyperparameters, "activation": activation}
    for key in given:
        if key not in known:
            raise ValueError(f"dictionary {name!r} has no {key!r}; it has {', '.join(known)}.")
    if not issubclass(structure, Linear):
        return structure(**given)
    kind = _chosen(name, activation)
    outer, inner = _fields(structure), _fields(kind)
    inside = dict(structure.presets.get(_kind_name(kind), {}))
    inside |= {k: v for k, v in hyperparameters.items() if k in inner}
    outside = {k: v for k, v in hyperparameters.items() if k in outer}
    return structure(**outside, activation=kind(**inside))


def describe(module: Dictionary) -> dict:
    """The arguments with which `make` made a dictionary.

    Args:
        module: a module that `make` returned.

    Returns:
        Its name, its activation where it has a choice of one, and all of their fields.

    Raises:
        ValueError: for a module that is not one of `names()`.

    Example:
        >>> told = describe(make("relu", d_in=4, n_latents=8, sparsity=0.1))
        >>> told["name"], told["sparsity"], make(**told).n_latents
        ('relu', 0.1, 8)
    """
    activation = module.activation if isinstance(module, Linear) else None
    own = type(module if type(module) is not Linear else activation)
    name = own.__module__.rpartition(".")[2]
    if name not in names() or type(module) is not variant(name):
        raise ValueError(f"{own.__name__} is not one of the dictionaries {', '.join(names())}.")
    known = {key: vars(module)[key] for key in _fields(type(module))}
    if activation is None:
        return {"name": name, **known}
    inner = {key: vars(activation)[key] for key in _fields(type(activation))}
    return {"name": name, **inner, **known, "activation": _kind_name(type(activation))}


def _kind_name(kind: type[_activations.Activation]) -> str:
    return kind.__module__.rpartition(".")[2]


def _chosen(name: str, activation: str | None) -> type[_activations.Activation]:
    allowed = activations(name)
    chosen = allowed[0] if activation is None else activation
    if chosen not in allowed:
        reason = cast(type[Linear], variant(name)).because or "its name is that activation"
        raise ValueError(
            f"{name} does not take the activation {chosen!r}; it takes {', '.join(allowed)} ({reason})."
        )
    return _activations.kind(chosen)


def _fields(module: type) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(module) if field.name not in _OWN}
