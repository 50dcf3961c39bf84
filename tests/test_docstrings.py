"""What users import is documented: a summary, Args, Returns, and an Example that runs.

The names are those of the root and, of the packages that the root names, those of their `__all__`."""

import doctest
import importlib
import inspect
import re

import pytest

import dictlearn

MODULES = (
    *("dictlearn", "dictlearn.dictionaries", "dictlearn.interop", "dictlearn.learners"),
    *("dictlearn.meters", "dictlearn.objectives", "dictlearn.rules", "dictlearn.streams"),
    *("dictlearn.runs.fold", "dictlearn.runs.to_jumprelu", "dictlearn.runs.warm_start"),
)
"""Modules whose `__all__` is public; others are public by the names that the root takes from them."""
NEEDS_A_RUN = {"warm_start"}
"""What an example could not show in a second, as it starts from the workdir of a run."""


def documented() -> dict[str, object]:
    """{full name: class or function} of everything public."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for each in module.__all__:
            value = getattr(module, each)
            if not inspect.ismodule(value):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


PUBLIC = documented()


def arguments(value) -> list[str]:
    return [name for name in inspect.signature(value).parameters if name not in ("parent", "name")]


def missing(value) -> list[str]:
    """The sections that a docstring lacks."""
    text = inspect.getdoc(value) or ""
    wanted = {"Example": True, "Args": bool(arguments(value))}
    wanted["Returns"] = not inspect.isclass(value) and (
        inspect.signature(value).return_annotation not in (None, inspect.Signature.empty)
    )
    if value.__name__ in NEEDS_A_RUN:
        wanted.pop("Example")
    lacking = [
        name for name, is_wanted in wanted.items() if is_wanted and f"\n{name}:\n" not in text
    ]
    unnamed = [name for name in arguments(value) if not re.search(rf"\b{name}\b", text)]
    summary = text.split("\n\n")[0]
    return lacking + unnamed + ([] if summary.endswith((".", ":")) else ["a full sentence"])


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_docstrings_have_their_sections(name):
    assert not missing(PUBLIC[name])


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_examples_run(name):
    value = PUBLIC[name]
    names = dict(vars(importlib.import_module(value.__module__)))
    (test,) = [
        each
        for each in doctest.DocTestFinder(recurse=False).find(value, name, globs=names)
        if each.examples or value.__name__ in NEEDS_A_RUN
    ] or [None]
    assert test is not None, f"{name} has no example"
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not result.failed, "".join(said)


def test_a_bare_docstring_is_found():
    def area(width: int, height: int) -> int:
        """The area of a rectangle.

        Args:
            width: the width.
        """
        return width * height

    assert missing(area) == ["Example", "Returns", "height"]


def test_the_public_names_are_many():
    assert {"gradient", "sweep", "restore", "load", "to_jumprelu"} <= set(dictlearn.__all__)
    assert len(PUBLIC) > 40
