"""A config that is read back equals the one given, for all values that it may hold."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from dictlearn import experiment
from dictlearn.experiment import values
from tests.helpers import planted_config

INF = float("inf")
GIVEN = {
    "nothing": None,
    "truth": True,
    "numbers": (0, -1, 2**63, 1e-30, 0.1, -0.0),
    "nested": ((1, (2, 3)), (), ((),)),
    "special": (INF, -INF),
    "words": ("", "None", "inf", "é\U0001f600", "\udcff"),
    "tree": {"a.b": {"c": (None, INF)}},
}


def through_json(tree):
    return values.from_json(json.loads(json.dumps(values.to_json(tree), allow_nan=False)))


def test_every_kind_of_value_comes_back_as_it_was():
    assert through_json(GIVEN) == GIVEN
    assert str(through_json(GIVEN)) == str(GIVEN)
    nan = through_json({"x": (float("nan"), 1)})
    assert values.same(nan, {"x": (float("nan"), 1)})
    assert not values.same(nan, {"x": (float("nan"), 2)})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([1, [2, 3]], (1, (2, 3))),
        (np.float32(0.5), 0.5),
        (np.array([[1, 2]]), ((1, 2),)),
        (jnp.asarray(3), 3),
        (Path("a") / "b", "a/b"),
        (ConfigDict({"a": {"b": [1]}}), {"a": {"b": (1,)}}),
    ],
)
def test_what_is_given_in_another_form_has_one(given, kept):
    assert values.settled(given) == kept
    assert type(values.settled(given)) is type(kept)


@pytest.mark.parametrize("given", [{1, 2}, b"x", 1j, len, 2**65, np.array(["a"]), np.array([None])])
def test_what_the_disk_cannot_keep_is_refused_by_its_place(given):
    with pytest.raises(ValueError, match=r"config\.rule\.lr\[1\]"):
        values.settled({"rule": {"lr": (0, given)}})
    with pytest.raises(ValueError, match=r"config\.rule.*7"):
        values.settled({"rule": {7: 1}})


@pytest.mark.parametrize(
    "name", ["a/b", "", "..", ".a", "a\\b", "a\nb", "a ", "-a", "a" * 101, "a:b"]
)
def test_a_member_is_called_as_a_file_can_be(name):
    with pytest.raises(ValueError, match=r"members.*letter"):
        experiment.members(planted_config(members={name: {}}))
    assert experiment.members(planted_config(members={"É-1 b+c": {}}))
