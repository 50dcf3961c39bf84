"""Two checkpoints that are made once, a copy to damage, and a hashing that waits."""

import shutil
import threading
from pathlib import Path

import pytest

from dictlearn.runs import _seal
from tests.runs.states import save_steps


@pytest.fixture(scope="session")
def two_steps(tmp_path_factory):
    return save_steps(tmp_path_factory.mktemp("two_steps"), 1, 2)


@pytest.fixture
def copy(two_steps, tmp_path):
    return Path(shutil.copytree(two_steps, tmp_path / "copy"))


@pytest.fixture
def hashing(monkeypatch):
    """Two events: hashing `began`, and hashing `may_go_on`, which it waits for, if not for ever."""
    began, may_go_on = threading.Event(), threading.Event()
    sha256 = _seal._sha256

    def held(path):
        began.set()
        may_go_on.wait(timeout=10)
        return sha256(path)

    monkeypatch.setattr(_seal, "_sha256", held)
    return began, may_go_on
