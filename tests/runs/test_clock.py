"""A clock that is set back while a save waits is told; one that runs on is not, and ends no save."""

import gc
import itertools
import logging
import time

import pytest

from dictlearn.runs import _clock
from dictlearn.runs.checkpoint import TEMPORARY, Checkpoints
from tests.runs.states import assert_equal, like, state_at

# What Orbax had prepared and not awaited is told when it is collected, within the test.
gives_up = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning"
)


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


@gives_up
def test_a_save_that_orbax_gives_up_costs_only_its_checkpoint(tmp_path, monkeypatch, caplog):
    """Every look at the clock finds it half an hour later, and a signal within Orbax has five minutes."""
    real, looks = time.time, itertools.count()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_at(1), {})
        checkpoints.wait()
        monkeypatch.setattr(time, "time", lambda: real() + 1800 * next(looks))
        checkpoints.save(2, state_at(2), {})
        assert checkpoints._pending is not None
        assert isinstance(checkpoints._pending[1].exception(60), TimeoutError)
        monkeypatch.undo()
        assert not caplog.records
        checkpoints.save(3, state_at(3), {})
        assert f"{tmp_path / '2'} was not completed" in caplog.text
        found = checkpoints.restore(like(state_at(3)))
    assert found is not None
    assert found[0] == 3
    assert_equal(found[1], state_at(3))
    gc.collect()


@gives_up
def test_the_last_save_that_orbax_gives_up_is_an_error(tmp_path, monkeypatch):
    real, looks = time.time, itertools.count()
    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(time, "time", lambda: real() + 1800 * next(looks))
    checkpoints.save(1, state_at(1), {})
    with pytest.raises(RuntimeError, match="was not completed"):
        checkpoints.close()
    gc.collect()
