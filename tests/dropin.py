"""Puts new files into rooms of the package and runs the rooms' conformance, with nothing else edited.

    @pytest.fixture(scope="module")
    def found(tmp_path_factory):
        files = {"rules/dropped_in": TEXT, "rules/wrong": TEXT.replace("+", "-")}
        return drop_in(tmp_path_factory.mktemp("new"), files, SUITE, "dropped_in or wrong and moves")

    def test_a_rule_is_one_file(found):
        assert found["dropped_in"].passed
        assert not found["dropped_in"].failed

In a separate process, before tests are collected, each room's package gets a second folder with the new files.
The suite then finds the new members as it finds the others, by the names that the room gives. A failing control
is the same text with a mistake in it, of which `failed` names the test.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]


class Found(NamedTuple):
    passed: set[str]
    """Names of the tests of one new member, without their parameters, of which every case passed."""
    failed: set[str]
    """The members with a failed case."""
    log: str


def drop_in(folder: Path, files: dict[str, str], suite: str, chosen: str) -> dict[str, Found]:
    """Of each new file, its tests of `suite`. `files` has the texts by where they would be in the package,
    without their ending ("dictionaries/_activations/plus"); no file's name may hold another's. `folder` is an
    empty one. `chosen`, an expression of pytest's `-k`, says which tests run."""
    for path, text in files.items():
        member = (folder / path).with_suffix(".py")
        member.parent.mkdir(parents=True, exist_ok=True)
        member.write_text(text)
    rooms = sorted({str(Path(path).parent) for path in files})
    report = folder / "report.xml"
    options = ["-k", chosen, "-p", "no:cacheprovider", f"--junit-xml={report}", suite]
    command = [sys.executable, "-m", "tests.dropin", str(folder), ",".join(rooms), *options]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment["PYTHONPATH"] = paths
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert report.exists(), f"ended with {run.returncode}: {run.stdout}{run.stderr}"
    cases = list(ElementTree.parse(report).iter("testcase"))
    log = run.stdout[-5000:] + run.stderr[-2000:]
    return {name: _found(cases, name, log) for name in (Path(path).name for path in files)}


def _found(cases: list[ElementTree.Element], name: str, log: str) -> Found:
    ran = {case for case in cases if name in case.get("name", "") and case.find("skipped") is None}
    wrong = {c for c in ran if c.find("failure") is not None or c.find("error") is not None}
    names = lambda some: {case.get("name", "").split("[")[0] for case in some}
    failed = names(wrong)
    return Found(names(ran) - failed, failed, log)


class _Second:
    """The plugin that gives the rooms their second folders."""

    def __init__(self, folder: str, rooms: list[str]):
        self.folder, self.rooms = Path(folder), rooms

    def pytest_sessionstart(self):
        for room in self.rooms:
            package = importlib.import_module(f"dictlearn.{room.replace('/', '.')}")
            package.__path__.append(str(self.folder / room))


if __name__ == "__main__":
    folder, rooms, *options = sys.argv[1:]
    sys.exit(pytest.main(options, plugins=[_Second(folder, rooms.split(","))]))
