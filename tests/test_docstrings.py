"""What users import is documented: a summary, Args and Returns, and an Example that runs.

MODULES have an Example for every name of their `__all__`. Every other public function of the packages in ROOMS,
every stream and every analysis, has the same sections without an Example."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import dictlearn
from dictlearn import analyses, streams

MODULES = (
    *("dictlearn", "dictlearn.analyses", "dictlearn.dictionaries", "dictlearn.interop"),
    *("dictlearn.learners", "dictlearn.lm", "dictlearn.lm.bert", "dictlearn.lm.families"),
    *("dictlearn.meters", "dictlearn.objectives", "dictlearn.rules", "dictlearn.streams"),
    *("dictlearn.runs.fold", "dictlearn.runs.to_jumprelu", "dictlearn.runs.warm_start"),
)
"""Modules whose `__all__` is public; others are public by the names that the root takes from them."""
ROOMS = (
    *("dictlearn.circuits", "dictlearn.interop", "dictlearn.lm.families", "dictlearn.plan"),
    *("dictlearn.hub", "dictlearn.scaling"),
)
"""Packages whose public functions all have Args and Returns; files with a leading underscore are private."""
NO_EXAMPLE = {"warm_start", "wiki_leads"}
"""What an example could not show in a second, anywhere: it needs a run, or a package of text."""


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


def functions(room: str) -> dict[str, object]:
    """{full name: function} of the public functions that the files of a package define."""
    found = {}
    package = importlib.import_module(room)
    files = [one.name for one in pkgutil.walk_packages(package.__path__, f"{room}.")]
    for file in [room, *(one for one in files if "._" not in one)]:
        for name, value in vars(importlib.import_module(file)).items():
            if inspect.isfunction(value) and value.__module__ == file and name[0] != "_":
                found[f"{file}.{name}"] = value
    return found


PUBLIC = documented()
OTHERS = {
    **{f"dictlearn.streams.{name}": streams.maker(name) for name in streams.names()},
    **{f"dictlearn.analyses.{name}": analyses.make(name) for name in analyses.names()},
} | {name: value for room in ROOMS for name, value in functions(room).items() if name not in PUBLIC}


def arguments(value) -> list[str]:
    return [name for name in inspect.signature(value).parameters if name not in ("parent", "name")]


def missing(value, example: bool = True) -> list[str]:
    """The sections that a docstring lacks."""
    text = inspect.getdoc(value) or ""
    wanted = {"Example": example, "Args": bool(arguments(value))}
    wanted["Returns"] = not inspect.isclass(value) and (
        inspect.signature(value).return_annotation not in (None, inspect.Signature.empty)
    )
    if value.__name__ in NO_EXAMPLE:
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


def test_docstrings_of_other_public_functions_have_their_sections():
    assert len(OTHERS) > 60
    assert not {name: lacks for name, value in OTHERS.items() if (lacks := missing(value, False))}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_examples_run(name):
    value = PUBLIC[name]
    names = dict(vars(importlib.import_module(value.__module__)))
    (test,) = [
        each
        for each in doctest.DocTestFinder(recurse=False).find(value, name, globs=names)
        if each.examples or value.__name__ in NO_EXAMPLE
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
