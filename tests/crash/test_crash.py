"""Commands that write to disk continue after a crash at any change, to the bits of an undisturbed run.
`points.py` tries every point; the tests try some of each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash import shim
from tests.crash.points import MODES

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shim.compiler() is None, reason="no C compiler builds the shim")


def tried(*words):
    command = [sys.executable, "-m", "tests.crash.points", "--json", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("scenarios", "modes", "points"),
    [
        # Without `clock`, under which a save may wait for 25 s: docs/faults.md.
        (("checkpoints",), ("kill", "tear", "eio", "full", "power"), 1),
        (("events", "log", "checksums"), MODES, 2),
        (("lm.save", "export saelens", "export safetensors"), ("tear", "power"), 1),
        (("train", "harvest"), ("full", "power"), 1),
    ],
    ids=["checkpoints", "small", "exports", "commands"],
)
def test_a_crash_at_any_change_loses_nothing(scenarios, modes, points):
    words = [f"--scenario={name}" for name in scenarios] + [f"--mode={mode}" for mode in modes]
    found = tried(*words, f"--points={points}")
    assert found.keys() == set(scenarios)
    for tries in found.values():
        assert tries.keys() == set(modes)
        for one in tries.values():
            assert 0 < one["points"] <= one["of"]
            assert one["problems"] == []
