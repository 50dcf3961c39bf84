"""A latent for each square and state is the ceiling, and a rotation of them is near chance."""

import numpy as np
import pytest

from dictlearn import analyses, tasks
from dictlearn.analyses import Subject
from dictlearn.analyses.board_games import How, properties, scored
from dictlearn.tasks.othello import SQUARES

HOW = How((0.0, 0.25, 0.5, 0.75), 0.95, 10)


@pytest.fixture(scope="module")
def boards():
    """(the properties of boards, which boards are scored)."""
    says_SP = properties(tasks.make("othello", n=300), "empty")
    often_P = (says_SP.sum(0) >= 30) & ((~says_SP).sum(0) >= 30)
    return says_SP[:, often_P], np.arange(300) % 3 == 0


def test_a_latent_for_each_property_is_the_ceiling_and_a_rotation_is_near_chance(boards):
    says_SP, test_S = boards
    random = np.random.default_rng(0)
    code_SF = says_SP * random.uniform(0.5, 2, says_SP.shape)
    assert scored(code_SF, says_SP, test_S, HOW) == {"coverage": 1, "reconstruction": 1}
    turn_FF = np.linalg.qr(random.normal(size=(len(says_SP.T),) * 2))[0]
    turned = scored(np.maximum(code_SF @ turn_FF, 0), says_SP, test_S, HOW)
    chance = float((2 / (1 + 1 / says_SP.mean(0))).mean())
    assert turned["coverage"] < chance + 0.1 < 0.7
    assert turned["reconstruction"] < 0.1
    always = scored(np.ones_like(code_SF), says_SP, test_S, HOW)
    assert always["coverage"] == pytest.approx(chance, abs=0.03)


def test_a_latent_that_says_half_of_a_property_is_precise_but_covers_half(boards):
    says_SP, test_S = boards
    half_SP = says_SP & (np.cumsum(says_SP, 0) % 2 == 0)
    found = scored(half_SP.astype(float), says_SP, test_S, HOW)
    assert found["coverage"] == pytest.approx(2 / 3, abs=0.05)
    assert found["reconstruction"] == pytest.approx(2 / 3, abs=0.05)
    nothing = scored(np.zeros(says_SP.shape), says_SP, test_S, HOW)
    assert nothing == {"coverage": 0, "reconstruction": 0}


def test_a_latent_that_always_fires_says_a_property_from_a_threshold_on(boards):
    says_SP, test_S = boards
    both = says_SP[:, 0] * 1.0 + 0.3 * ~says_SP[:, 0]
    alone = How((0.0,), 0.95, 10)
    one_SP = says_SP[:, :1]
    assert scored(both[:, None], one_SP, test_S, HOW) == {"coverage": 1, "reconstruction": 1}
    without = scored(both[:, None], one_SP, test_S, alone)["reconstruction"]
    assert without == pytest.approx((~one_SP[test_S]).mean())


def test_properties_are_states_of_squares():
    games = tasks.make("othello", n=40)
    mine_S = games.attributes["d4"] == "mine"
    says_SP = properties(games, "empty")
    assert says_SP.shape[1] <= 2 * len(SQUARES)
    assert any((column_S == mine_S).all() for column_S in says_SP.T)
    with pytest.raises(ValueError, match="no square of 40 games"):
        properties(games._replace(attributes={}), "empty")


@pytest.mark.parametrize("bad", [{"thresholds": (1.0,)}, {"precision": 0}, {"fewest": 0}])
def test_settings_out_of_bounds_are_refused_before_the_model_runs(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        analyses.run("board_games", [Subject("nothing")], **bad)
