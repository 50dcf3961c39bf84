"""Public array arguments of the rooms that pytest checks are annotated with their axes (jaxtyping), so that the
import hook of conftest.py checks the shapes as the code runs."""

import importlib
import inspect
import pkgutil
import re
import typing

import jaxtyping
import pytest

from dictlearn.types import AXES
from tests.conftest import CHECKED

ROOMS = ("dictionaries", "learners", "normalise", "objectives", "rules", "sweep")
ARRAY = re.compile(rf"[A-Za-z_]\w*_[{AXES}]+1?$")
"""A name that ends in axis letters; a last 1 is an axis of that length."""


def modules(room: str):
    whole = importlib.import_module(f"dictlearn.{room}")
    yield whole
    for found in pkgutil.walk_packages(getattr(whole, "__path__", ()), f"{whole.__name__}."):
        yield importlib.import_module(found.name)


def public(holder, of: str):
    """(name, function) of the public functions and methods that module `of` defines, `__call__` among them."""
    for name, value in vars(holder).items():
        if inspect.isclass(value) and value.__module__ == of and not name.startswith("_"):
            yield from public(value, of)
        function = inspect.unwrap(value) if callable(value) else value
        named = name == "__call__" or not name.startswith("_")
        if inspect.isfunction(function) and function.__module__ == of and named:
            yield f"{of}.{function.__qualname__}", function


def holds_an_array_type(annotation) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(map(holds_an_array_type, typing.get_args(annotation)))


def unannotated(functions) -> list[str]:
    return [
        f"{name}({argument.name})"
        for name, function in functions
        for argument in inspect.signature(function).parameters.values()
        if ARRAY.match(argument.name) and not holds_an_array_type(argument.annotation)
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_array_arguments_say_their_axes(room):
    wrong = [
        one for module in modules(room) for one in unannotated(public(module, module.__name__))
    ]
    assert not wrong


@pytest.mark.parametrize("room", ["dictionaries", "learners", "rules"])
def test_the_annotations_are_checked_as_tests_run(room):
    assert room in CHECKED


def test_an_argument_without_its_axes_is_found():
    def encode(x_BD, codes, dead_F: jaxtyping.Bool[jaxtyping.Array, " F"], step): ...

    assert unannotated([("encode", encode)]) == ["encode(x_BD)"]
    module = importlib.import_module("dictlearn.dictionaries.mp")
    assert f"{module.__name__}.MP.__call__" in dict(public(module, module.__name__))
