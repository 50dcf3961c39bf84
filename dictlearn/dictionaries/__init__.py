"""Dictionaries: Linen modules of the interface `types.Dictionary`. `make` finds them by name.

Two independent choices make most of them: the structure, what is decoded from the latents (one a file of this
folder), and the activation, which latents fire (one a file of `_activations/`). The name of a structure takes
any `activation`; the name of an activation is that of the linear SAE or transcoder which it makes.

    make("topk", d_in=64, n_latents=512, k=8)
    make("matryoshka", activation="jumprelu", d_in=64, n_latents=512, sparsity=1e-3)

Hyperparameters are given flat. Fields annotated `Scalar` decide no shape and may be traced, so a sweep over
them is one program; all others are static. A field `NAME_max` bounds a traced field `NAME`.
"""

import dataclasses
import importlib
import pkgutil
from types import MappingProxyType
from typing import cast

from dictlearn.dictionaries import _activations
from dictlearn.dictionaries._linear import Linear
from dictlearn.types import Dictionary

_OWN = ("parent", "name")
"""Fields of every Linen module."""


def names() -> list[str]:
    """The dictionaries there are: the structures and, each by itself, the activations."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    structures = [name for name in found if not name.startswith("_")]
    return sorted(structures + _activations.names())


def variant(name: str) -> type[Dictionary]:
    """The structure of a dictionary: the one class of the interface that its file defines."""
    if name not in names():
        raise ValueError(f"unknown dictionary {name!r}; there are {', '.join(names())}.")
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
    """The activations that a dictionary may have, its default first; none where it has no such choice."""
    structure = variant(name)
    if name in _activations.names():
        return [name]
    if not issubclass(structure, Linear):
        return []
    taken = structure.takes or _activations.names()
    return sorted(taken, key=lambda each: (each != structure.default, each))


def parts(name: str, activation: str | None = None) -> list[type]:
    """The classes whose fields are the hyperparameters of a dictionary: its structure, and its activation where
    it has a choice of one, the structure's default where None is named.

    Raises ValueError for an activation that the structure does not take, and why."""
    structure = variant(name)
    return [structure, _chosen(name, activation)] if activations(name) else [structure]


def fields(name: str, activation: str | None = None) -> MappingProxyType:
    """The hyperparameters of a dictionary: name -> dataclass field. Raises ValueError as `parts` does."""
    inner_first = reversed(parts(name, activation))
    return MappingProxyType({k: v for part in inner_first for k, v in _fields(part).items()})


def make(name: str, *, activation: str | None = None, **hyperparameters) -> Dictionary:
    """The dictionary `name` with these fields, its activation's among them.

    activation: its name; None for the structure's default.
    Raises ValueError for an unknown dictionary, activation or field, listing what there is.

    Example: `make("topk", d_in=64, n_latents=512, k=8)`."""
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
    """What `make` made it from: its name, its activation where it has a choice of one, and all of their fields.

    Raises ValueError for a module that is no file of this folder."""
    activation = module.activation if isinstance(module, Linear) else None
    own = type(module if type(module) is not Linear else activation)
    name = own.__module__.rpartition(".")[2]
    if name not in names() or type(module) is not variant(name):
        raise ValueError(f"{own.__name__} is none of the dictionaries: {', '.join(names())}.")
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
        reason = cast(type[Linear], variant(name)).because or "that is its name"
        raise ValueError(
            f"{name} does not take the activation {chosen!r}; it takes {', '.join(allowed)} ({reason})."
        )
    return _activations.kind(chosen)


def _fields(module: type) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(module) if field.name not in _OWN}
