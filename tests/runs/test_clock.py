"""A clock that is set back while a save waits is told; one that runs on is not, and ends no save."""

import logging
import time

import pytest

from dictlearn.runs import _clock
from dictlearn.runs.checkpoint import TEMPORARY, Checkpoints
from tests.runs.states import assert_equal, like, state_at


@pytest.fixture
def wall(monkeypatch):
    """The wall clock, which may be set."""
    ahead = [0.0]
    real = time.time
    monkeypatch.setattr(_clock, "PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr(_clock.time, "time", lambda: real() + ahead[0])
    return ahead


def said(caplog):
    return [record.args for record in caplog.records if record.levelno == logging.WARNING]


def wait_for(caplog, seconds=5.0):
    end = time.monotonic() + seconds
    while not said(caplog) and time.monotonic() < end:
        time.sleep(0.005)
    return said(caplog)


@pytest.mark.parametrize("before", [False, True])
def test_a_save_that_waits_for_the_old_time_says_so(wall, caplog, before):
    wall[0] = 50.0
    clock = _clock.Clock()
    wall[0] -= 3600 * before
    with clock.told("checkpoint 7"):
        wall[0] -= 3600 * (not before)
        ((work, seconds),) = wait_for(caplog)
    assert work == "checkpoint 7"
    assert seconds == pytest.approx(3600, abs=1)


@pytest.mark.parametrize("to", [0.0, 3600.0, -0.5])
def test_a_clock_that_runs_on_is_not_told(wall, caplog, to):
    clock = _clock.Clock()
    with clock.told("checkpoint 7"):
        wall[0] = to
        assert not wait_for(caplog, 0.1)


def test_what_is_done_is_not_told(wall, caplog):
    clock = _clock.Clock()
    with clock.told("checkpoint 7"):
        wall[0] = -3600.0
    assert not wait_for(caplog, 0.1)


def test_a_save_over_which_the_process_sleeps_for_hours_is_completed(tmp_path, monkeypatch):
    """Orbax itself gives up after 20 minutes."""
    real, begun = time.time, lambda: any(tmp_path.glob(f"1{TEMPORARY}"))
    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(time, "time", lambda: real() + 3 * 3600 * begun())
        checkpoints.save(1, state_at(1), {})
        checkpoints.wait()
        found = checkpoints.restore(like(state_at(1)))
    assert found is not None
    assert_equal(found[1], state_at(1))
