"""Every optimiser by name, at its own best of three rates, recovers what Adam does."""

import functools

import pytest

from benchmarks.optimisers import RATES, measured
from dictlearn import rules


@functools.cache
def adam():
    return measured({"name": "adam", "decay_fraction": 0.5})["recovered"]


def test_every_optimiser_has_a_rate_here():
    """Spherical steps move atoms alone, without a schedule: tests/planted/test_gba_planted.py has them."""
    assert set(RATES) == set(rules.names()) - {"spherical"}


@pytest.mark.parametrize("name", [name for name in RATES if name != "adam"])
def test_an_optimiser_recovers_nine_tenths_of_what_adam_does(name):
    assert adam() >= 0.97
    assert measured({"name": name, "decay_fraction": 0.5})["recovered"] >= 0.9 * adam()


@pytest.mark.parametrize("schedule", rules.schedules())
def test_adam_recovers_as_much_under_every_schedule(schedule):
    assert measured({"name": "adam", "schedule": schedule})["recovered"] >= 0.9 * adam()


def test_a_rate_far_too_small_recovers_nothing():
    assert measured({"name": "lion", "warmup_steps": 10**6})["recovered"] < 0.1
