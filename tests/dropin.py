"""Puts one new file into a room of the package and runs that room's conformance, with nothing else edited.

    def test_a_rule_is_one_file(tmp_path):
        found = drop_in(tmp_path, "rules", TEXT, "tests/rules/test_conformance.py")
        assert found.passed, found.log
        assert not found.failed, found.log

The room's package gets a second folder, which holds the new file, before tests are collected, in a process of
its own: the suite finds the new member as it finds the others, by the names that the room gives when asked.
`room` is dotted below the package ("dictionaries._activations"). A failing control is the same text with a
mistake in it, of which `failed` names the test. `chosen`, an expression of pytest's `-k`, runs fewer tests; by
default they are those whose id holds the member's name.
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
    """Names of the tests, without their parameters, of which every case passed."""
    failed: set[str]
    """Those of which a case failed."""
    log: str


def drop_in(
    folder: Path, room: str, text: str, suite: str, *, name: str = "dropped_in", chosen: str = ""
) -> Found:
    """The tests of `suite` with a file `name`.py that says `text` in `room`; `folder` is an empty one."""
    members = folder / name
    members.mkdir()
    (members / f"{name}.py").write_text(text)
    report = folder / f"{name}.xml"
    options = ["-k", chosen or name, "-p", "no:cacheprovider", f"--junit-xml={report}", suite]
    command = [sys.executable, "-m", "tests.dropin", room, str(members), *options]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment["PYTHONPATH"] = paths
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert report.exists(), f"ended with {run.returncode}: {run.stdout}{run.stderr}"
    cases = list(ElementTree.parse(report).iter("testcase"))
    ran = {case for case in cases if case.find("skipped") is None}
    wrong = {c for c in ran if c.find("failure") is not None or c.find("error") is not None}
    names = lambda some: {case.get("name", "").split("[")[0] for case in some}
    failed = names(wrong)
    return Found(names(ran) - failed, failed, run.stdout[-5000:] + run.stderr[-2000:])


class _Second:
    """The plugin that gives the room its second folder."""

    def __init__(self, room: str, members: str):
        self.room, self.members = room, members

    def pytest_sessionstart(self):
        importlib.import_module(f"dictlearn.{self.room}").__path__.append(self.members)


if __name__ == "__main__":
    room, members, *options = sys.argv[1:]
    sys.exit(pytest.main(options, plugins=[_Second(room, members)]))
