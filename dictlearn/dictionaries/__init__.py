"""Dictionaries: Linen modules, one variant a file. `make` finds the file by its name.

A variant is a frozen dataclass of hyperparameters with

    encode(x_BD) -> Codes            inference: each token by itself
    decode(codes) -> y_BD
    __call__(x_BD, dead_F) -> Out    training: may look at the whole batch, and at which latents are dead

Fields annotated `Scalar` decide no shape and may be traced, so a sweep over them is one program; all
others are static. A field `NAME_max` bounds a traced field `NAME`. It may also have, both pure and unbound,

    start(key, variables, batch) -> variables    a start that depends on a sample of the data
    project(params) -> params                    after every update, e.g. onto a simplex
    targets() -> [F]                             the share of the tokens on which each latent may fire

and say of itself, as class attributes, what it is not: `transcodes = False` (its target is its input),
`foldable = False` (another function at another scale of the input; see runs/fold.py); what it reads beside x,
`reads_gradient = True` (a third argument g_BD, None where there is none); and what it is not without:
`wrapped_by = NAME`, the rule that wraps its rule where the config has no `revive`.
"""

import dataclasses
import importlib
import pkgutil
from types import MappingProxyType

from dictlearn.types import Dictionary


def names() -> list[str]:
    """The variants there are: the files of this folder."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def variant(name: str) -> type[Dictionary]:
    """The class of a variant: the one module class that its file defines."""
    if name not in names():
        raise ValueError(f"unknown dictionary {name!r}; there are {', '.join(names())}.")
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
            f"dictionaries/{name}.py defines {len(classes)} modules; it must define 1."
        )
    return classes[0]


def fields(name: str) -> MappingProxyType:
    """The hyperparameters of a variant: name -> dataclass field."""
    known = {field.name: field for field in dataclasses.fields(variant(name))}
    return MappingProxyType({k: v for k, v in known.items() if k not in ("parent", "name")})


def make(name: str, **hyperparameters) -> Dictionary:
    """The variant `name` with these fields.

    Raises ValueError for an unknown variant or field, listing what there is."""
    known = fields(name)
    for key in hyperparameters:
        if key not in known:
            raise ValueError(f"dictionary {name!r} has no {key!r}; it has {', '.join(known)}.")
    return variant(name)(**hyperparameters)
