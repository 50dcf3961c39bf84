"""A new rule is one new file: dropped into the folder, it passes conformance untouched."""

import pytest

from tests.dropin import drop_in

RULE = '''
"""Steps of one length against the sign of the gradient (a test's rule)."""

import jax
import jax.numpy as jnp
import optax

from dictlearn.types import Scalar

KIND = "optimiser"


def dropped_in(lr: Scalar = 1e-3) -> optax.GradientTransformation:
    def update(updates, state, params=None):
        return jax.tree.map(lambda leaf: -lr * jnp.sign(leaf), updates), state + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)
'''

SUITE = "tests/rules/test_conformance.py"
CHECK = "compiles_once_and_resumes_to_the_bit"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    growing = RULE.replace("state + 1", "state + 1.0").replace("dropped_in", "growing")
    assert "state + 1.0" in growing
    files = {"rules/dropped_in": RULE, "rules/growing": growing}
    chosen = f"dropped_in or growing and {CHECK}"
    return drop_in(tmp_path_factory.mktemp("new"), files, SUITE, chosen)


def test_one_dropped_in_rule_passes_conformance_untouched(found):
    passed, failed, log = found["dropped_in"]
    assert len(passed) == 3, log
    assert not failed, log


def test_a_rule_whose_state_changes_its_type_is_caught(found):
    _, failed, log = found["growing"]
    assert failed == {f"test_it_keeps_tree_types_and_placement_{CHECK}"}, log
