"""A finished run says what its log shows to be poor, with the figure and the way out; a good one is silent."""

import pytest

from dictlearn import experiment
from dictlearn.runs import health
from tests.helpers import planted_config

STEPS = 1000


def told(change=lambda step: {}, **config):
    """The remarks on a run of two dictionaries whose second one has the changed values at each step."""
    members = experiment.members(planted_config(sweep={"k": (2, 4)}, **config))
    lines = []
    for step in range(10, STEPS + 1, 10):
        one = {"reconstruction": 0.1 + 1 / step, "dead_fraction": 0.05, "l0": 2.0}
        other = {**one, "l0": 4.0, **change(step)}
        lines.append({"step": step, members[0].name: one, members[1].name: other})
    return health.remarks(lines, members, STEPS)


def test_a_good_run_is_not_mentioned():
    assert told() == []


def test_dead_latents_are_told_with_their_share_and_what_revives_them():
    (line,) = told(lambda step: {"dead_fraction": 0.47})
    assert "topk_n64_1: 47% of its latents are dead." in line
    assert "--config.revive.name=reanimate" in line


def test_an_l0_away_from_k_is_told():
    (line,) = told(lambda step: {"l0": 3.0})
    assert "topk_n64_1: L0 is 25% from its target" in line


def test_a_loss_that_still_falls_is_told_with_twice_the_steps():
    (line,) = told(lambda step: {"reconstruction": 1 / step})
    assert "fell by 51% in the second half" in line
    assert "--config.steps=2000" in line


def test_several_dictionaries_are_one_line_that_names_the_worst():
    members = experiment.members(planted_config(sweep={"k": (2, 4)}))
    info = lambda dead: {"reconstruction": 1.0, "dead_fraction": dead}
    lines = [{"step": 1, members[0].name: info(0.2), members[1].name: info(0.6)}]
    (line,) = health.remarks(lines, members, 1)
    assert line.startswith(f"{members[1].name}: 60%")
    assert "1 more of 2" in line


@pytest.mark.parametrize("lines", [[], [{"step": 1}]])
def test_a_run_without_a_log_has_no_remarks(lines):
    assert health.remarks(lines, experiment.members(planted_config()), 1) == []
